// Package event is the contract for what the engine tells about its objects: docker's events.
package event

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/events"
)

// Publisher records an event in the durable journal and hands it to subscribers. It never blocks on a slow
// subscriber and sets Time/TimeNano when they are zero.
type Publisher interface {
	Publish(ctx context.Context, m events.Message)
}

// Source replays and follows events.
type Source interface {
	// Read calls emit for journalled events from since on (zero: none of the past), then for live ones until ctx is
	// done, until is reached (zero: endless) or emit fails. A subscriber that falls too far behind gets an error.
	Read(ctx context.Context, since, until time.Time, emit func(events.Message) error) error
}
