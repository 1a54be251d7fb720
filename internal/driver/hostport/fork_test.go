package hostport

import (
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChildren: a port that is given back is free at once, although children are made meanwhile, each with a copy of all
// descriptors until it executes its program.
func TestChildren(t *testing.T) {
	_ = exec.Command("/bin/true").Run() // the first one asks the kernel what it can, with a child that nobody can wait for
	over := make(chan struct{})
	var parents sync.WaitGroup
	for range 2 {
		parents.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	defer parents.Wait()
	defer close(over)
	p := New()
	l, err := p.Reserve(Want{Proto: unix.IPPROTO_TCP, Addrs: loop})
	if err != nil {
		t.Fatal(err)
	}
	port := l.Port
	l.Release()
	for i := range 300 {
		want := Want{Proto: unix.IPPROTO_TCP, Addrs: loop, First: port, Last: port}
		if i%2 == 0 {
			want.Elsewhere = loop
		}
		l, err := p.Reserve(want)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		l.Release()
	}
}
