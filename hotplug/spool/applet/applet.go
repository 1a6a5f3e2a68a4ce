// Package applet holds the tools by which a person or a script meets the spool:
// devspool watch and devspool event. They use the spool as any client does.
//
// It never publishes but for event put, and knows nothing of /sys.
package applet

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/cli"
	"devspool/hotplug/uevent"
)

// The exit codes, which are those of devspool.
const (
	exitDone   = 0
	exitFailed = 1 // also where there is no event to be had
	exitUsage  = 100
)

// Streams are what a tool reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// print writes to standard output. A failure, as on a full disk, is the tool's failure.
func (s Streams) print(text []byte) error {
	_, err := s.Out.Write(text)
	return err
}

// read returns all of stdin, which is to be no more than a uevent. Text that fills the buffer
// is refused, since the rest of an event may follow.
func (s Streams) read() ([]byte, error) {
	text := make([]byte, 0, uevent.MaxMessage)
	for len(text) < cap(text) {
		n, err := s.In.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if err == io.EOF {
			return text, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, unix.EMSGSIZE
}

// noSpool is the error where there is no directory for queues. What is missing is then most
// often the program that makes it.
func noSpool(root string) error {
	return errors.New("no spool at " + root + "; does devspool run there?")
}

// end writes what is to be said of how a tool ended, and returns the exit code.
func (s Streams) end(usage func() string, tool string, err error) int {
	if err == nil {
		return exitDone
	}
	if err == errHelp {
		return s.end(usage, tool, s.print([]byte(usage())))
	}
	if wrong, is := err.(cli.Error); is {
		_, _ = s.Err.Write([]byte(cli.Misuse(tool, string(wrong))))
		return exitUsage
	}
	_, _ = s.Err.Write([]byte("devspool " + tool + ": error: " + err.Error() + "\n"))
	return exitFailed
}

// forever is a spool.Context that does not end. A signal kills a tool that waits with it, which is no
// loss where the tool has no queue of its own.
type forever struct{}

func (forever) Done() <-chan struct{} { return nil }
func (forever) Err() error            { return nil }

// errHelp is returned where the command line asks for help.
var errHelp = errors.New("help")

// parse reads the command line of a tool with these options, and with one for help. What is
// no option comes back as rest.
func parse(args []string, options []cli.Option) (rest []string, err error) {
	var help bool
	rest, err = cli.Parse(args, append(options, cli.Option{Name: "-h, --help", Given: &help}))
	if help && err == nil {
		err = errHelp
	}
	return rest, err
}

// left and right bring text to a width, in bytes. What is longer stays whole, and moves the columns.
func left(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len(text)))
}

func right(text string, width int) string {
	return strings.Repeat(" ", max(0, width-len(text))) + text
}
