package shimclient

import (
	"sync"
	"syscall"

	"longshore/internal/base/romount"
)

// program is the shim's binary as shims are started from it: on a read-only mount of its own that is attached nowhere, so
// that nobody who gets hold of a shim's /proc/<pid>/exe can write to it (docs/decisions/0015). Where the kernel cannot
// do that it is the plain file, and shims leave every exec to the OCI runtime.
type program struct {
	path string

	once sync.Once
	mu   sync.RWMutex // guards fd; held for reading while a shim is started
	fd   int          // of the mount; -1: none
}

// use calls f with the path to execute.
func (p *program) use(f func(path string) error) error {
	p.once.Do(func() {
		fd, err := romount.Of(p.path)
		if err != nil {
			fd = -1
		}
		p.mu.Lock()
		p.fd = fd
		p.mu.Unlock()
	})
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return f(p.path)
	}
	return f(romount.Path(p.fd))
}

// close gives the mount up; shims that run from it keep it.
func (p *program) close() {
	p.once.Do(func() { p.fd = -1 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		syscall.Close(p.fd)
		p.fd = -1
	}
}
