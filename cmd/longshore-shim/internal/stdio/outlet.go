// Package stdio joins a process's stdio with the clients that are attached to it.
//
// An Outlet fans output out to any number of clients, framed as docker's stdcopy unless the process has a terminal. Each
// client has a bounded queue; when one is full the process waits, as it would write to a slow terminal. What keeps this
// from lasting for ever is the question whether the daemon behind a client that takes nothing still lives (Alive).
// An Inlet takes input of any number of clients.
package stdio

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"
)

// HeadRoom is the space that a chunk given to Outlet.Write has before its data, for the frame's header.
const HeadRoom = 8

// queueLimit is how much a client may be behind before the process waits; docker's is the same.
const queueLimit = 1 << 20

// defaultStall is how long a client may take nothing before the daemon is asked whether it lives.
const defaultStall = 10 * time.Second

// The streams of a stdcopy header.
const (
	Stdout = 1
	Stderr = 2
)

// Outlet is the output side. Make it with NewOutlet; safe for concurrent use.
type Outlet struct {
	framed bool
	alive  func() bool
	idle   func()
	stall  time.Duration

	mu       sync.Mutex // guards what follows
	clients  []*client
	closed   bool
	draining bool
	open     int // clients that still have something to deliver or listen
}

// NewOutlet makes an outlet. alive asks whether any daemon answers and may take seconds; idle is told when the last
// client has gone.
func NewOutlet(framed bool, alive func() bool, idle func()) *Outlet {
	return &Outlet{framed: framed, alive: alive, idle: idle, stall: defaultStall}
}

// client is one attached stream. The outlet's lists and the client's queue have locks of their own, taken in this order.
type client struct {
	o    *Outlet
	f    *os.File
	raw  syscall.RawConn
	want [3]bool

	mu       sync.Mutex // guards what follows; held while a frame is queued or written, so that frames stay whole
	room     sync.Cond
	queue    [][]byte
	queued   int
	progress int // counts chunks taken by the other side
	busy     bool
	last     bool // close when the queue is empty
	dead     bool
}

// Add attaches a client that wants the given streams and returns what ends it. The greeting comes before any output, and
// whoever has read it misses nothing afterwards. A closed outlet closes the client after the greeting.
func (o *Outlet) Add(f *os.File, stdout, stderr bool, greeting ...byte) (remove func(), err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &client{o: o, f: f, raw: raw, want: [3]bool{Stdout: stdout, Stderr: stderr}}
	c.room.L = &c.mu
	o.mu.Lock() // keeps Write from delivering before the greeting
	defer o.mu.Unlock()
	if n, ok := c.try(greeting); !ok || n < len(greeting) {
		return nil, syscall.EPIPE
	}
	o.open++
	if o.closed {
		go c.finish()
		return c.kill, nil
	}
	o.clients = append(append([]*client(nil), o.clients...), c)
	return c.kill, nil
}

// Busy tells whether a client has not ended yet.
func (o *Outlet) Busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open > 0
}

// Write gives a chunk to every client that wants the stream. The data begin at HeadRoom. It blocks while a client's
// queue is full.
func (o *Outlet) Write(stream byte, chunk []byte) {
	o.mu.Lock()
	clients := o.clients
	o.mu.Unlock()
	if len(clients) == 0 {
		return
	}
	if o.framed {
		n := len(chunk) - HeadRoom
		chunk[0], chunk[1], chunk[2], chunk[3] = stream, 0, 0, 0
		binary.BigEndian.PutUint32(chunk[4:], uint32(n))
	} else {
		chunk = chunk[HeadRoom:]
	}
	for _, c := range clients {
		if c.want[stream] {
			c.write(chunk)
		}
	}
}

// Release stops waiting for slow clients: what comes from now on is queued without limit. Called when the process has
// ended; the kernel's pipe buffers bound what can still come.
func (o *Outlet) Release() {
	o.mu.Lock()
	o.draining = true
	clients := o.clients
	o.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		c.room.Broadcast()
		c.mu.Unlock()
	}
}

// Close ends every client after what is queued for it.
func (o *Outlet) Close() {
	o.mu.Lock()
	clients := o.clients
	o.clients, o.closed, o.draining = nil, true, true
	o.mu.Unlock()
	for _, c := range clients {
		c.finish()
	}
}

func (o *Outlet) isDraining() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.draining
}

// forget takes a client off the list.
func (o *Outlet) forget(c *client) {
	o.mu.Lock()
	kept := make([]*client, 0, len(o.clients))
	for _, x := range o.clients {
		if x != c {
			kept = append(kept, x)
		}
	}
	o.clients = kept
	o.open--
	last := o.open == 0
	o.mu.Unlock()
	if last {
		o.idle()
	}
}

// write sends directly while nothing is queued and queues the rest.
func (c *client) write(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.queued >= queueLimit && !c.dead && !c.o.isDraining() {
		c.room.Wait()
	}
	if c.dead || c.last {
		return
	}
	if !c.busy {
		n, ok := c.try(p)
		if !ok {
			go c.kill()
			return
		}
		if p = p[n:]; len(p) == 0 {
			return
		}
	}
	c.queue = append(c.queue, append([]byte(nil), p...))
	c.queued += len(p)
	if !c.busy {
		c.busy = true
		go c.drain()
	}
}

// try writes what goes without waiting.
func (c *client) try(p []byte) (n int, ok bool) {
	ok = true
	err := c.raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			m, err := syscall.Write(int(fd), p[n:])
			switch {
			case m > 0:
				n += m
				continue
			case err == syscall.EINTR:
				continue
			case err != syscall.EAGAIN:
				ok = false
			}
			break
		}
		return true
	})
	return n, ok && err == nil
}

// drain writes the queue out and ends when it is empty.
func (c *client) drain() {
	watch := time.AfterFunc(c.o.stall, func() { c.watch(-1) })
	defer watch.Stop()
	c.mu.Lock()
	for len(c.queue) > 0 && !c.dead {
		p := c.queue[0]
		c.mu.Unlock()
		for len(p) > 0 {
			n, err := c.f.Write(p[:min(len(p), 64<<10)])
			p = p[n:]
			if err != nil {
				c.kill()
				return
			}
			c.mu.Lock()
			c.progress++
			c.queued -= n
			c.room.Broadcast()
			c.mu.Unlock()
		}
		c.mu.Lock()
		if !c.dead {
			c.queue = c.queue[1:]
		}
	}
	c.queue, c.busy = nil, false
	last := c.last
	c.mu.Unlock()
	if last {
		c.kill()
	}
}

// watch looks at a client whose queue does not empty. A living daemon may take its time: somebody reads a pager.
func (c *client) watch(before int) {
	c.mu.Lock()
	busy, now := c.busy && !c.dead, c.progress
	c.mu.Unlock()
	if !busy {
		return
	}
	if now == before && !c.o.alive() {
		c.kill()
		return
	}
	time.AfterFunc(c.o.stall, func() { c.watch(now) })
}

// finish closes the client once its queue is empty.
func (c *client) finish() {
	c.mu.Lock()
	c.last = true
	busy := c.busy
	c.mu.Unlock()
	if !busy {
		c.kill()
	}
}

// kill ends the client now. Whoever waits for room in its queue goes on.
func (c *client) kill() {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.dead = true
	c.queue, c.queued = nil, 0
	c.room.Broadcast()
	c.mu.Unlock()
	c.f.Close()
	c.o.forget(c)
}
