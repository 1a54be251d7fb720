package registryboot

import (
	"net"
	"net/http"
	"sync"
)

// fresh knows the connections on which no request has come yet. net/http waits five seconds for those before it takes
// them for idle, and clients like to open more than they use.
type fresh struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// note is http.Server's ConnState.
func (f *fresh) note(c net.Conn, s http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s != http.StateNew {
		delete(f.conns, c)
		return
	}
	if f.closed {
		_ = c.Close() // nobody will read what comes
		return
	}
	if f.conns == nil {
		f.conns = map[net.Conn]struct{}{}
	}
	f.conns[c] = struct{}{}
}

// close ends them all, and those that are still to come.
func (f *fresh) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		_ = c.Close() // nothing was asked on it
	}
}
