package listing

import (
	"sync/atomic"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
)

// Shown is a container's snapshot with a place beside it for what lists made of it. Both are dropped together: when the
// container has another snapshot, and when it is gone.
type Shown struct {
	Record *core.Record
	// Kept belongs to whoever shows lists.
	Kept atomic.Value
}

// Show answers what is in a container's slot, or puts a new one there when the container has another snapshot by now.
func Show(slot *atomic.Pointer[Shown], rec *core.Record) *Shown {
	if s := slot.Load(); s != nil && s.Record == rec {
		return s
	}
	s := &Shown{Record: rec}
	slot.Store(s) // whoever comes with an older snapshot at the same time only costs the next one a new Shown
	return s
}

// Item is a container of a list: its snapshot, and what does not follow from that.
type Item struct {
	*Shown
	// Image is the name that it was made from while that means the image, else the image's ID.
	Image string
	// Aliases are its names as a link's target: "/web/db".
	Aliases []string
	// Status is the sentence of now: "Up 3 minutes".
	Status string
	// Sizes are set where they were asked for, in bytes.
	SizeRw, SizeRootFs int64
}

// Summary is the item as the API shows it. What it points at is the record's.
func (i *Item) Summary() *container.Summary {
	s := summary(i.Record)
	s.Names, s.Image, s.Status = append([]string{"/" + i.Record.Name}, i.Aliases...), i.Image, i.Status
	s.SizeRw, s.SizeRootFs = i.SizeRw, i.SizeRootFs
	return s
}

// Summaries are the items as the API shows them.
func Summaries(items []Item) []*container.Summary {
	out := make([]*container.Summary, len(items))
	for i := range items {
		out[i] = items[i].Summary()
	}
	return out
}
