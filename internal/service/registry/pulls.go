package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// pulls counts pulls in memory until they are written; a crash loses at most the last second's.
type pulls struct {
	mu sync.Mutex // guards m
	m  map[pullKey]*pullCount
}

type pullKey struct {
	repo   distribution.RepoName
	digest digest.Digest
	tag    distribution.Tag
}

type pullCount struct {
	n    int64
	last time.Time
}

func newPulls() *pulls { return &pulls{m: map[pullKey]*pullCount{}} }

func (p *pulls) add(k pullKey, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.m[k]
	if c == nil {
		c = &pullCount{}
		p.m[k] = c
	}
	c.n++
	c.last = now
}

func (p *pulls) take() []registryindex.Pull {
	p.mu.Lock()
	m := p.m
	if len(m) == 0 { // still in use: not to be walked without the lock
		p.mu.Unlock()
		return nil
	}
	p.m = map[pullKey]*pullCount{}
	p.mu.Unlock()
	list := make([]registryindex.Pull, 0, len(m))
	for k, c := range m {
		list = append(list, registryindex.Pull{Repo: k.repo, Digest: k.digest, Tag: k.tag, Count: c.n, Last: c.last})
	}
	return list
}

// pullBatch bounds a change, so that a push need not wait long behind it.
const pullBatch = 100

// writePulls writes the statistics; those that cannot be written are lost.
func (s *Service) writePulls(ctx context.Context) error {
	list := s.pulls.take()
	var errs []error
	for len(list) > 0 {
		n := min(len(list), pullBatch)
		errs = append(errs, s.index.Pulled(ctx, list[:n]))
		list = list[n:]
	}
	return errors.Join(errs...)
}
