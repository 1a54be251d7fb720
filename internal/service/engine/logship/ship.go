package logship

import (
	"context"
	"errors"
	"time"

	"longshore/internal/core/logs"
)

const (
	// maxBatch is how many lines go to a server at once.
	maxBatch = 256
	// maxLine bounds a line that the log has in parts, in bytes; a longer one is sent in several.
	maxLine = 1 << 20
	// saveEvery is how often the cursor of a busy container is written down.
	saveEvery = time.Second
	// retryFirst and retryMost are the pauses between attempts at a server that fails.
	retryFirst, retryMost = 500 * time.Millisecond, 30 * time.Second
)

// ship follows one container. One goroutine reads, another one sends.
type ship struct {
	svc    *Service
	target logs.Target
	done   chan struct{} // nothing more is written: end when all is sent
	abort  chan struct{} // end now
	gone   chan struct{} // ended
}

// item is a line on its way and what may be remembered once it is sent.
type item struct {
	line logs.Line
	sent logs.Place
}

func (s *ship) run(ctx context.Context) {
	defer close(s.gone)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.abort:
			cancel()
		case <-ctx.Done():
		}
	}()
	lines := make(chan item, maxBatch)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.deliver(ctx, lines)
	}()
	s.read(ctx, lines)
	close(lines)
	<-ended
}

// read follows the log behind the cursor until it is done.
func (s *ship) read(ctx context.Context, out chan<- item) {
	from := s.svc.load(ctx, s.target.Origin.ID)
	j := &joiner{last: from}
	send := func(i item) error {
		select {
		case out <- i:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := s.svc.reader.Read(ctx, s.target.Source, logs.ReadOptions{
		After: from, Tail: -1, Follow: true, Stdout: true, Stderr: true, Done: s.done,
	}, func(m *logs.Message) error {
		if i, whole := j.add(m); whole {
			return send(i)
		}
		return nil
	})
	for _, i := range j.rest() {
		if err == nil {
			err = send(i)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.svc.log.Error("log is not sent any more", "container", s.target.Origin.ID, "error", err)
	}
}

// joiner puts lines together that the log has in parts.
type joiner struct {
	parts [3]part
	last  logs.Place // behind what was added
}

type part struct {
	text []byte
	time time.Time
	from logs.Place // in front of it
}

// add takes a message and gives a line when one is whole.
func (j *joiner) add(m *logs.Message) (item, bool) {
	p := &j.parts[m.Stream]
	if len(p.text) == 0 {
		p.time, p.from = m.Time, j.last
	}
	j.last = m.End
	n := len(m.Line)
	whole := n > 0 && m.Line[n-1] == '\n'
	if whole {
		n--
	}
	p.text = append(p.text, m.Line[:n]...)
	if !whole && len(p.text) < maxLine {
		return item{}, false
	}
	return j.take(m.Stream, m.End), true
}

// take gives what there is of a stream's line. What may be remembered stops before the line that another stream has begun.
func (j *joiner) take(stream logs.Stream, sent logs.Place) item {
	p := j.parts[stream]
	j.parts[stream] = part{}
	for _, other := range j.parts {
		if len(other.text) > 0 {
			sent = other.from
		}
	}
	return item{logs.Line{Stream: stream, Time: p.time, Text: p.text}, sent}
}

// rest are the lines without an end.
func (j *joiner) rest() (out []item) {
	for stream := range j.parts {
		if len(j.parts[stream].text) > 0 {
			out = append(out, j.take(logs.Stream(stream), j.last))
		}
	}
	return out
}

// deliver sends what comes, in order, and keeps at it until it is sent.
func (s *ship) deliver(ctx context.Context, in <-chan item) {
	var sink logs.Sink
	defer func() {
		if sink != nil {
			_ = sink.Close()
		}
	}()
	var saved time.Time // when
	var sent, stored logs.Place
	remember := func() {
		if sent != stored {
			s.svc.save(ctx, s.target.Origin.ID, sent)
			stored, saved = sent, time.Now()
		}
	}
	defer remember()
	quiet := time.NewTimer(saveEvery)
	defer quiet.Stop()
	for {
		select {
		case first, ok := <-in:
			if !ok {
				return
			}
			batch := collect(first, in)
			if sink = s.persist(ctx, sink, batch); sink == nil {
				return // told to end
			}
			sent = batch[len(batch)-1].sent
			if time.Since(saved) >= saveEvery {
				remember()
			}
			quiet.Reset(saveEvery)
		case <-quiet.C:
			remember()
		}
	}
}

// collect takes what is there already.
func collect(first item, in <-chan item) []item {
	batch := []item{first}
	for len(batch) < maxBatch {
		select {
		case i, ok := <-in:
			if !ok {
				return batch
			}
			batch = append(batch, i)
		default:
			return batch
		}
	}
	return batch
}

// persist sends a batch, over new connections if need be. It answers the connection to go on with; nil when ctx ended.
func (s *ship) persist(ctx context.Context, sink logs.Sink, batch []item) logs.Sink {
	lines := make([]logs.Line, len(batch))
	for i := range batch {
		lines[i] = batch[i].line
	}
	pause := retryFirst
	for attempt := 0; ; attempt++ {
		var err error
		if sink == nil {
			sink, err = s.svc.servers.Open(ctx, s.target)
		}
		if err == nil {
			if err = sink.Send(ctx, lines); err == nil {
				if attempt > 0 {
					s.svc.log.Info("log server is there again", "container", s.target.Origin.ID, "driver", s.target.Driver)
				}
				return sink
			}
			_ = sink.Close()
			sink = nil
		}
		if ctx.Err() != nil || errors.Is(err, context.Canceled) {
			return nil
		}
		if attempt == 0 {
			s.svc.log.Warn("log server cannot be reached, trying again", "container", s.target.Origin.ID, "driver", s.target.Driver, "error", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		pause = min(2*pause, retryMost)
	}
}
