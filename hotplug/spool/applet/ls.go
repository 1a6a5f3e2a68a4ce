package applet

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/spool"
)

// ls lists the queues.
func (s Streams) ls(args []string) error {
	o := eventOptions{events: spool.DefaultEvents}
	rest, err := parse(args, o.ls())
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Error("not understood: " + rest[0])
	}
	queues, err := spool.Queues(o.events)
	if errors.Is(err, unix.ENOENT) {
		return noSpool(o.events)
	}
	if err != nil {
		return err
	}
	text := "   UID    OWNER  UNREAD  QUEUE\n"
	for _, q := range queues {
		// Without the right to read it, a queue of another user shows its owner and nothing
		// more.
		unread := "?"
		if q.Unread >= 0 {
			unread = strconv.Itoa(q.Unread)
		}
		text += right(strconv.Itoa(q.UID), 6) + right(owner(q), 9) + right(unread, 8) + "  " + spool.Escape(q.Name) + "\n"
	}
	return s.print([]byte(text))
}

// owner names what a queue lives by.
func owner(q spool.Queue) string {
	switch {
	case q.PID > 0:
		return strconv.Itoa(q.PID)
	case q.Sticky:
		return "sticky"
	}
	return "-"
}
