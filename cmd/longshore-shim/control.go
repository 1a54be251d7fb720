package main

import (
	"os"
	"sync"
	"syscall"
	"time"

	"longshore/internal/base/shimproto"
)

// sendTime bounds how long a daemon may keep us from writing a frame to it; then its connection is closed.
const sendTime = 5 * time.Second

// pongTime is how long a daemon has to answer a Ping.
const pongTime = 10 * time.Second

// control is a daemon's connection.
type control struct {
	f     *os.File
	mu    sync.Mutex    // held while writing
	pong  chan struct{} // takes one token per Pong
	acked bool          // guarded by supervisor.mu
}

func (c *control) send(f shimproto.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.f.SetWriteDeadline(time.Now().Add(sendTime))
	if f.Write(c.f) != nil {
		c.f.Close()
	}
}

// addControl registers a connection and sends Hello. Both happen under the lock so that Exited cannot come first.
func (s *supervisor) addControl(f *os.File) *control {
	c := &control{f: f, pong: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.controls[c] = struct{}{}
	st := shimproto.State{Phase: s.phase, PID: s.pid, Exit: s.exit, Enters: s.door != nil}
	c.send(shimproto.Frame{Kind: shimproto.Hello, Payload: st.Encode()})
	return c
}

// serve handles a daemon's requests until its connection ends.
func (s *supervisor) serve(c *control) {
	for {
		f, err := shimproto.Read(c.f)
		if err != nil {
			break
		}
		s.handle(c, f)
	}
	c.f.Close()
	s.mu.Lock()
	delete(s.controls, c)
	s.mu.Unlock()
	s.settle()
}

// handle does short requests at once, in their order, and long ones in a goroutine.
func (s *supervisor) handle(c *control, f shimproto.Frame) {
	reply := func(a shimproto.Answer) {
		c.send(shimproto.Frame{Kind: shimproto.Reply, Call: f.Call, Payload: a.Encode()})
	}
	p := shimproto.Parser{B: f.Payload}
	switch f.Kind {
	case shimproto.Start:
		go func() {
			a := s.start()
			reply(a)
			if a.PID != 0 {
				s.noteState(a.PID)
			}
		}()
	case shimproto.Exec:
		e, err := shimproto.DecodeExec(f.Payload)
		if err != nil {
			reply(shimproto.Answer{Status: shimproto.Failed, Text: err.Error()})
			return
		}
		go func() { reply(s.exec(e)) }()
	case shimproto.Signal:
		target, sig := p.String(), syscall.Signal(p.Uint())
		reply(s.signal(target, sig))
	case shimproto.Resize:
		target, height, width := p.String(), uint16(p.Uint()), uint16(p.Uint())
		reply(s.resize(target, height, width))
	case shimproto.Stop:
		reply(s.stop())
	case shimproto.Ack:
		s.mu.Lock()
		c.acked = true
		s.mu.Unlock()
		s.settle()
	case shimproto.Pong:
		select {
		case c.pong <- struct{}{}:
		default:
		}
	}
}

// alive asks all daemons and tells whether one answers.
func (s *supervisor) alive() bool {
	s.mu.Lock()
	controls := make([]*control, 0, len(s.controls))
	for c := range s.controls {
		controls = append(controls, c)
	}
	s.mu.Unlock()
	answered := make(chan struct{}, len(controls))
	limit := time.NewTimer(pongTime)
	defer limit.Stop()
	over := make(chan struct{})
	defer close(over)
	for _, c := range controls {
		go func() {
			select { // an answer to an earlier question
			case <-c.pong:
			default:
			}
			c.send(shimproto.Frame{Kind: shimproto.Ping})
			select {
			case <-c.pong:
				answered <- struct{}{}
			case <-over:
			}
		}()
	}
	select {
	case <-answered:
		return true
	case <-limit.C:
		return false
	}
}

// accept takes connections for as long as the shim lives.
func (s *supervisor) accept(listener *os.File) {
	raw, err := listener.SyscallConn()
	if err != nil {
		die(err.Error())
	}
	for {
		fd := -1
		var got error
		err := raw.Read(func(l uintptr) bool {
			fd, _, got = syscall.Accept4(int(l), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			return got != syscall.EAGAIN
		})
		if err != nil {
			return
		}
		if got != nil { // out of descriptors, most likely: some will be given back
			<-time.After(50 * time.Millisecond)
			continue
		}
		go s.welcome(os.NewFile(uintptr(fd), ""))
	}
}

// welcome learns what a connection is for.
func (s *supervisor) welcome(f *os.File) {
	f.SetReadDeadline(time.Now().Add(sendTime))
	p, err := shimproto.ReadPreface(f)
	f.SetReadDeadline(time.Time{})
	if err != nil {
		f.Close()
		return
	}
	switch p.Purpose {
	case shimproto.ControlConn:
		s.serve(s.addControl(f))
	case shimproto.AttachConn:
		s.task.attach(f, p.Flags)
	case shimproto.ExecConn:
		s.execution(p.ExecID).offer(f)
	default:
		f.Close()
	}
}
