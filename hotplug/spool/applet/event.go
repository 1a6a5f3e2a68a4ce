package applet

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/spool"
	"devspool/hotplug/spool/broker"
)

// eventOptions is the command line of an event tool.
type eventOptions struct {
	seqnum, source string // "" for none
	dev, events    string
	wait           bool
}

// put, pop and ls return the options of each tool, which the usage shows too.
func (o *eventOptions) put() []cli.Option {
	return []cli.Option{
		{Name: "-n SEQNUM", Text: &o.seqnum, Help: "the event's SEQNUM"},
		{Name: "-s QUEUE", Text: &o.source, Help: "not to this queue, which the event comes from"},
		{Name: "--dev DIR", Text: &o.dev, Help: "use DIR for /dev"},
	}
}

func (o *eventOptions) pop() []cli.Option {
	return []cli.Option{{Name: "-w", Given: &o.wait, Help: "wait for one"}}
}

func (o *eventOptions) ls() []cli.Option {
	return []cli.Option{{Name: "--events DIR", Text: &o.events, Help: "the spool's directory (/dev/events)"}}
}

// eventUsage is the help of all three tools: they are small, and are used together.
func eventUsage() string {
	const indent, column = "      ", 21
	var o eventOptions
	return `usage:
  devspool event put [-n SEQNUM] [-s QUEUE] [--dev DIR] < EVENT
                     give an event to every queue: a line ACTION@DEVPATH, then
                     lines KEY=VALUE (or the kernel's own form, ended by NUL)
` + cli.Usage(o.put(), false, indent, column) + `  devspool event pop [-w] QUEUE
                     print the oldest event and remove it; exit 1 when there is none
` + cli.Usage(o.pop(), false, indent, column) + `  devspool event ls [--events DIR]
                     list the queues: user, process, unread events
` + cli.Usage(o.ls(), false, indent, column)
}

// Event does one of the small things that scripts need, and returns the exit code.
func Event(args []string, s Streams) int {
	tool, err := "event", error(cli.Error("put, pop or ls?"))
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
			err = cli.Error("not understood: " + args[0])
		}
	}
	if err == spool.ErrEmpty {
		return exitFailed // how a script's loop ends
	}
	return s.end(eventUsage, tool, err)
}

// put publishes the event that it reads.
func (s Streams) put(args []string) error {
	o := eventOptions{dev: "/dev"}
	rest, err := parse(args, o.put())
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Error("not understood: " + rest[0])
	}
	if _, err := strconv.ParseUint(o.seqnum, 10, 64); err != nil && o.seqnum != "" {
		return cli.Error("-n needs a number: " + o.seqnum)
	}
	text, err := s.read()
	if err != nil {
		return err
	}
	p, err := spool.Parse(text)
	if err != nil {
		return err
	}
	if o.seqnum != "" {
		p.Env = append(p.Env, "SEQNUM="+o.seqnum)
	}
	return s.publish(o.dev, o.source, p)
}

// publish gives an event to every queue but the one it comes from. It neither mounts a spool
// nor stays to look after it: this process has one event, and ends.
func (s Streams) publish(dev, source string, p spool.Packet) error {
	o := broker.Options{Private: dev + "/.devspool", Events: dev + "/events",
		Libudev: dev + strings.TrimPrefix(spool.DefaultLibudev, "/dev"), Source: source,
		Log: func(text string) { _, _ = s.Err.Write([]byte("devspool event put: " + text + "\n")) }}
	// Whoever runs the loop or the helpers says where a spool is to lie, and of which kind.
	for _, root := range []*string{&o.Events, &o.Libudev} {
		if unix.Access(*root, unix.F_OK) != nil {
			*root = ""
		}
	}
	if o.Events == "" && o.Libudev == "" {
		return noSpool(dev + "/events")
	}
	publisher, err := broker.Open(o)
	if err != nil {
		return err
	}
	defer publisher.Close()
	return publisher.Put(p)
}

// pop prints the oldest event of a queue.
func (s Streams) pop(args []string) error {
	var o eventOptions
	rest, err := parse(args, o.pop())
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return cli.Error("which queue?")
	}
	r, err := spool.NewReader(forever{}, rest[0])
	if err != nil {
		return err
	}
	defer r.Close()
	next := r.TryNext
	if o.wait {
		next = r.Next
	}
	p, err := next()
	if err != nil {
		return err
	}
	return s.print(p.Append(nil))
}
