package applet

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
)

const eventUsage = `usage:
  devspool event put [-n SEQNUM] [-s QUEUE] [--dev DIR] < EVENT
                     give an event to every queue: a line ACTION@DEVPATH, then
                     lines KEY=VALUE (or the kernel's own form, ended by NUL)
      -n SEQNUM      the event's SEQNUM
      -s QUEUE       not to this queue, which the event comes from
      --dev DIR      use DIR for /dev
  devspool event pop [-w] QUEUE
                     print the oldest event and remove it; exit 1 when there is none
      -w             wait for one
  devspool event ls [--events DIR]
                     list the queues: user, process, unread events
      --events DIR   the spool's directory (/dev/events)
`

// Event does one of the small things that scripts need, and returns the exit code.
func Event(args []string, s Streams) int {
	tool, err := "event", error(misuse("put, pop or ls?"))
	if len(args) > 0 {
		tool += " " + args[0]
		switch args[0] {
		case "put":
			err = s.put(args[1:])
		case "pop":
			err = s.pop(args[1:])
		case "ls":
			err = s.ls(args[1:])
		case "-h", "--help":
			err = errHelp
		default:
			err = misuse("not understood: " + args[0])
		}
	}
	if err == spool.ErrEmpty {
		return exitFailed // how a script's loop ends
	}
	return s.end(eventUsage, tool, err)
}

// put publishes the event that it reads.
func (s Streams) put(args []string) error {
	seqnum, source, dev := "", "", "/dev"
	rest, err := parse(args, map[string]option{"-n": {value: &seqnum}, "-s": {value: &source}, "--dev": {value: &dev}})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return misuse("not understood: " + rest[0])
	}
	if _, err := strconv.ParseUint(seqnum, 10, 64); err != nil && seqnum != "" {
		return misuse("-n needs a number: " + seqnum)
	}
	text, err := s.read()
	if err != nil {
		return err
	}
	p, err := spool.Parse(text)
	if err != nil {
		return err
	}
	if seqnum != "" {
		p.Env = append(p.Env, "SEQNUM="+seqnum)
	}
	return s.publish(dev, source, p)
}

// publish gives an event to every queue but the one it comes from.
func (s Streams) publish(dev, source string, p spool.Packet) error {
	o := spool.Options{Private: dev + "/.devspool", Events: dev + "/events",
		Libudev: dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev"), Source: source,
		Log: func(text string) { s.Err.Write([]byte("devspool event put: " + text + "\n")) }}
	// Whoever runs the loop or the helpers says where a spool is to lie, and of which kind.
	for _, root := range []*string{&o.Events, &o.Libudev} {
		if unix.Access(*root, unix.F_OK) != nil {
			*root = ""
		}
	}
	if o.Events == "" && o.Libudev == "" {
		return noSpool(dev + "/events")
	}
	publisher, err := spool.Open(o)
	if err != nil {
		return err
	}
	defer publisher.Close()
	return publisher.Put(p)
}

// pop prints the oldest event of a queue.
func (s Streams) pop(args []string) error {
	var wait bool
	rest, err := parse(args, map[string]option{"-w": {is: &wait}})
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return misuse("which queue?")
	}
	r, err := spool.NewReader(forever{}, rest[0])
	if err != nil {
		return err
	}
	defer r.Close()
	next := r.TryNext
	if wait {
		next = r.Next
	}
	p, err := next()
	if err != nil {
		return err
	}
	return s.print(p.Append(nil))
}
