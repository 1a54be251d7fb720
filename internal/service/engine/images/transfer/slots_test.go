package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"longshore/internal/driver/registryclient"
)

func silent() error { return nil }

func take(t *testing.T, p *party) *slot {
	t.Helper()
	s, err := p.take(t.Context(), silent)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claimOf takes a slot in the background, once it is known to wait.
func claimOf(t *testing.T, p *party) chan *slot {
	t.Helper()
	got, waits := make(chan *slot, 1), make(chan struct{})
	go func() {
		s, err := p.take(context.Background(), func() error {
			close(waits)
			return nil
		})
		if err == nil {
			got <- s
		}
	}()
	<-waits
	return got
}

func TestSlotsAreShared(t *testing.T) {
	var s Slots
	s.SetLimit(2)
	huge, small := s.party(), s.party()
	one, two := take(t, huge), take(t, huge)
	third := claimOf(t, huge) // came first
	mine := claimOf(t, small)
	one.release()
	(<-mine).release() // who has none goes before who has some
	(<-third).release()
	two.release()
	if s.used != 0 || len(s.held) != 0 || huge.held != 0 || small.held != 0 {
		t.Errorf("%d slots are used", s.used)
	}
	// More of them, while somebody waits.
	s.SetLimit(1)
	one = take(t, huge)
	mine = claimOf(t, small)
	s.SetLimit(2)
	(<-mine).release()
	one.release()
}

func TestSlotsMakeRoom(t *testing.T) {
	var s Slots
	s.SetLimit(2)
	huge, small := s.party(), s.party()
	one, two := take(t, huge), take(t, huge)
	interrupted := make(chan int, 4)
	one.interruptible(func() { interrupted <- 1 })
	mine := claimOf(t, small)
	if n := <-interrupted; n != 1 {
		t.Errorf("%d was interrupted", n)
	}
	one.release()
	slot := <-mine
	// One of each: nobody has to go.
	other := claimOf(t, s.party())
	two.interruptible(func() { interrupted <- 2 })
	slot.interruptible(func() { interrupted <- 3 })
	if len(interrupted) != 0 {
		t.Errorf("%d had to go with one slot", <-interrupted)
	}
	two.release()
	slot.release()
	(<-other).release()
}

func TestSlotsGivenUp(t *testing.T) {
	var s Slots
	s.SetLimit(1)
	p := s.party()
	held := take(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.party().take(ctx, func() error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := p.take(t.Context(), func() error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	held.release()
	var wait sync.WaitGroup
	for range 50 { // given up and granted at the same time
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
			defer cancel()
			if s, err := p.take(ctx, silent); err == nil {
				s.release()
			}
		})
	}
	wait.Wait()
	if s.used != 0 || len(s.waiting) != 0 {
		t.Errorf("%d used, %d wait", s.used, len(s.waiting))
	}
}

func TestPauses(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: longestPause, 60: longestPause} {
		if most, least := pauseAfter(failures, 0, 1), pauseAfter(failures, 0, 0); most != want || least != want/2 {
			t.Errorf("after %d failures: %v to %v, want at most %v", failures, least, most, want)
		}
	}
	if d := pauseAfter(1, 9*time.Second, 0); d != 9*time.Second {
		t.Errorf("a registry that asks for nine seconds gets %v", d)
	}
	if d := pauseAfter(1, time.Hour, 0); d != longestPause {
		t.Errorf("a registry that asks for an hour gets %v", d)
	}
}

func TestPatience(t *testing.T) {
	var told []int
	tries := 0
	p := patience{attempts: 2, tell: func(s int) error {
		told = append(told, s)
		return nil
	}}
	err := p.try(t.Context(), func() (int64, error) {
		tries++
		return 0, &registryclient.Error{Status: 503, After: 1100 * time.Millisecond}
	})
	if tries != 2 || err == nil || len(told) < 2 || told[0] != 2 || told[len(told)-1] != 1 {
		t.Errorf("%d tries, pauses %v: %v", tries, told, err)
	}
	tries = 0
	if err := p.try(t.Context(), func() (int64, error) {
		tries++
		return 0, &registryclient.Error{Status: 404}
	}); tries != 1 || err == nil {
		t.Errorf("404: %d tries, %v", tries, err)
	}
	tries = 0 // what gets ahead goes on
	err = patience{attempts: 2}.try(t.Context(), func() (int64, error) {
		if tries++; tries == 4 {
			return 0, nil
		}
		return advance, &registryclient.Error{Status: 503}
	})
	if tries != 4 || err != nil {
		t.Errorf("%d tries: %v", tries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = patience{attempts: 9, tell: func(int) error {
		cancel()
		return nil
	}}.try(ctx, func() (int64, error) { return 0, io.ErrUnexpectedEOF })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
