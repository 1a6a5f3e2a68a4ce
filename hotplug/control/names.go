//go:build !nonames

package control

import "devspool/nodes/identity"

func encode(text string) string { return identity.Encode(text) }
