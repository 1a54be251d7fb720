// Package transfer moves images between the engine's store and registries, with docker's progress lines. It knows nothing
// of names: what is fetched becomes visible, and what is sent is chosen, by its caller, who holds a lease meanwhile.
package transfer

import (
	"errors"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// Emit sends one progress object to the client. It is called by one goroutine at a time.
type Emit func(v any) error

// Progress is docker's progress line: jsonstream.Message with the drawn bar that old clients show.
type Progress struct {
	Status string               `json:"status,omitempty"`
	Detail *jsonstream.Progress `json:"progressDetail"`
	ID     string               `json:"id,omitempty"`
}

// Line says how far an action on id is; total 0 or less means unknown.
func Line(id, action string, done, total int64) Progress {
	return Progress{Status: action, ID: id, Detail: &jsonstream.Progress{Current: done, Total: max(total, 0)}}
}

// State says that id is in a state.
func State(id, status string) Progress {
	return Progress{Status: status, ID: id, Detail: &jsonstream.Progress{}}
}

// Message is a line without progress.
func Message(id, status string) jsonstream.Message {
	return jsonstream.Message{Status: status, ID: id}
}

// errGone is a client that takes no more progress. Why does not matter, and must not be taken for a registry's failure.
var errGone = errors.New("the client does not read the progress")

// serial makes an Emit safe for concurrent use and remembers its first error, after which it sends nothing.
func serial(emit Emit) Emit {
	var mu sync.Mutex
	var failed error
	return func(v any) error {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil && emit(v) != nil {
			failed = errGone
		}
		return failed
	}
}
