package images

import (
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// progressMessage is docker's progress line: jsonstream.Message with the drawn bar that old clients show.
type progressMessage struct {
	Status   string               `json:"status,omitempty"`
	Progress *jsonstream.Progress `json:"progressDetail"`
	ID       string               `json:"id,omitempty"`
}

// progressLine says how far an action on id is; total 0 or less means unknown.
func progressLine(id, action string, done, total int64) progressMessage {
	return progressMessage{Status: action, ID: id, Progress: &jsonstream.Progress{Current: done, Total: max(total, 0)}}
}

// statusLine says that id is in a state.
func statusLine(id, status string) progressMessage {
	return progressMessage{Status: status, ID: id, Progress: &jsonstream.Progress{}}
}

// statusOnly is a line without progress.
func statusOnly(id, status string) jsonstream.Message {
	return jsonstream.Message{Status: status, ID: id}
}

// serial makes an Emit safe for concurrent use and remembers its first error, after which it sends nothing.
func serial(emit Emit) Emit {
	var mu sync.Mutex
	var failed error
	return func(v any) error {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = emit(v)
		}
		return failed
	}
}
