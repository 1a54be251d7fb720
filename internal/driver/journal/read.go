package journal

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/moby/moby/api/types/events"
)

// Read implements event.Source: the past from the files, then the present from the ring, without a gap or a repeat
// between them.
func (j *Journal) Read(ctx context.Context, since, until time.Time, emit func(events.Message) error) error {
	w := window{since: since, until: until}
	j.mu.Lock()
	next, past := j.next, append([]segment(nil), j.segments...)
	j.readers++
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.readers--
		j.mu.Unlock()
	}()
	if !since.IsZero() {
		if err := replay(ctx, past, w, emit); err != nil {
			return err
		}
	}
	return j.follow(ctx, next, w, emit)
}

func (j *Journal) follow(ctx context.Context, next uint64, w window, emit func(events.Message) error) error {
	var end <-chan time.Time
	if !w.until.IsZero() {
		timer := time.NewTimer(w.until.Sub(j.config.now()))
		defer timer.Stop()
		end = timer.C
	}
	for {
		batch, wake, err := j.after(next)
		if err != nil {
			return err
		}
		for _, m := range batch {
			if !w.contains(&m) {
				continue
			}
			if err := emit(m); err != nil {
				return err
			}
		}
		if next += uint64(len(batch)); len(batch) > 0 {
			continue
		}
		if wake == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-wake:
		}
	}
}

// after returns some of the events from number next on, and what to wait for when there are none; nil when none will
// come any more.
func (j *Journal) after(next uint64) ([]events.Message, <-chan struct{}, error) {
	const most = 64
	j.mu.Lock()
	defer j.mu.Unlock()
	if next < j.first {
		return nil, nil, ErrBehind
	}
	var batch []events.Message
	for n := next; n < j.next && len(batch) < most; n++ {
		batch = append(batch, j.ring[n%uint64(j.config.ring)])
	}
	if j.closed {
		return batch, nil, nil
	}
	return batch, j.wake, nil
}

// window is the time that a reader asked for; both ends belong to it.
type window struct{ since, until time.Time }

func (w window) contains(m *events.Message) bool {
	t := time.Unix(0, m.TimeNano)
	return (w.since.IsZero() || !t.Before(w.since)) && (w.until.IsZero() || !t.After(w.until))
}

// slack is how far the times of neighbouring events may be out of order: several publishers stamp their own.
const slack = time.Minute

// replay emits the events of segments as they were when the sizes were taken. A segment's name tells only that no earlier segment has
// later events than it begins with: after the clock was set back there may be events of any time in it.
func replay(ctx context.Context, past []segment, w window, emit func(events.Message) error) error {
	for i, s := range past {
		if i+1 < len(past) && past[i+1].first.Add(slack).Before(w.since) {
			continue
		}
		if err := replaySegment(ctx, s, w, emit); err != nil {
			return err
		}
	}
	return nil
}

func replaySegment(ctx context.Context, s segment, w window, emit func(events.Message) error) error {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // too old by now
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return scan(io.LimitReader(f, s.size), func(m events.Message) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !w.contains(&m) {
			return nil
		}
		return emit(m)
	})
}

// scan calls f for every whole event in r. Torn and damaged lines are skipped: the next line is good again.
func scan(r io.Reader, f func(events.Message) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(br)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if m, ok := decode(line); ok {
			if err := f(m); err != nil {
				return err
			}
		}
	}
}

// readLine returns a line without its end; one that is longer than maxLine comes out empty. What follows the last
// line end is torn and is dropped.
func readLine(br *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(long)+len(part) <= maxLine {
				long = append(long, part...)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(long) == 0 {
			return part[:len(part)-1], nil
		}
		return append(long, part[:len(part)-1]...), nil
	}
}
