//go:build noboot

package loop

import "devspool/hotplug/control"

type boot struct{}

func (l *Loop) bootSide() control.Boot { return nil }

func (l *Loop) takeOver() bool { return false }

func (l *Loop) waitHandedOver() error { return nil }
