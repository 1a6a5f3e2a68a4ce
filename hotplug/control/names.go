//go:build !nonames

package control

import "devspool/nodes/identity"

const hasNames = true

func encode(text string) string { return identity.Encode(text) }
