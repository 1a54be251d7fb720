package logs

import (
	"context"
	"time"
)

// Target is where a container's lines are sent to, and what the server is told of the container.
type Target struct {
	Driver  string
	Options map[string]string
	Origin  Origin
	// Source is the file that the lines come from.
	Source Source
}

// Origin describes a container to a log server.
type Origin struct {
	ID, Name, ImageID, ImageName, Command string
	Created                               time.Time
	// Tag is the rendered tag option; drivers have defaults of their own when it is empty.
	Tag string
	// Attrs are the labels and variables that the options choose.
	Attrs map[string]string
}

// Line is one whole line for a server.
type Line struct {
	Stream Stream
	Time   time.Time
	// Text is without the newline.
	Text []byte
}

// Sink is a connection to a log server. It belongs to one goroutine.
type Sink interface {
	// Send gives lines to the server, in order, and returns when the server has them or, where its protocol knows no
	// acknowledgement, the kernel has. After an error the sink is to be closed; any of the lines may have arrived.
	Send(ctx context.Context, lines []Line) error
	Close() error
}

// Servers opens sinks by driver.
type Servers interface {
	// Check refuses a driver that is not known (ErrNotFound), an unknown option or a bad value (ErrInvalidArgument).
	Check(driver string, options map[string]string) error
	// Open connects. It fails when the server cannot be reached.
	Open(ctx context.Context, t Target) (Sink, error)
}
