package logfile

import (
	"io"

	"longshore/internal/core/logs"
)

// maxEntry bounds an entry; docker's readers have the same limit for a local record. A json-file line of 16 KiB takes
// less than 100 KiB, attributes apart.
const maxEntry = 1_000_000

// format is a log driver's file format.
type format interface {
	// decoder makes a decoder for one file.
	decoder() decoder
	// tail finds where the last n entries of a file of that size begin, and how many there are when fewer.
	tail(r io.ReaderAt, size int64, n int) (off int64, found int, err error)
	// end is where the last whole entry ends.
	end(r io.ReaderAt, size int64) int64
}

// decoder takes entries off the front of a buffer.
type decoder interface {
	// decode returns the first entry and its length; (nil, n, nil) for n bytes that are no entry; (nil, 0, nil) when the
	// buffer holds no whole entry. The message is valid until the next call.
	decode(b []byte) (*logs.Message, int, error)
}

func formatOf(driver string) format {
	switch driver {
	case "json-file":
		return jsonFormat{}
	case "local":
		return localFormat{}
	}
	return nil
}
