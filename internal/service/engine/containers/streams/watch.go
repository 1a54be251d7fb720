package streams

import (
	"context"

	"longshore/internal/base/socket"
)

// Await waits until the seat is ready, or gone is closed, or the client hangs up where its connection can tell.
func (s *Seat) Await(ctx context.Context, conn Conn, gone <-chan struct{}) error {
	ctx, stop := watch(ctx, conn)
	defer stop()
	select {
	case <-s.ready:
	case <-gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// watch ends the context when the client goes; stop must be called before conn is read.
func watch(ctx context.Context, conn Conn) (watched context.Context, stop func()) {
	ctx, gone := context.WithCancel(ctx)
	c, ok := conn.(socket.Conn)
	if !ok {
		return ctx, gone
	}
	done := make(chan struct{})
	watching, end := context.WithCancel(ctx)
	go func() {
		defer close(done)
		if socket.HungUp(watching, c) {
			gone()
		}
	}()
	return ctx, func() {
		end()
		<-done
		gone()
	}
}
