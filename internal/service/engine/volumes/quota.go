package volumes

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/docker/go-units"

	"longshore/internal/core/fault"
	"longshore/internal/driver/projectquota"
)

// firstProject leaves the numbers below to root filesystems, whose projects are numbered by snapshot.
const firstProject = 1 << 30

// quotas bound volumes that have the option "size", by project quotas of the file system below.
type quotas struct {
	mu   sync.Mutex
	next uint32 // 0: not looked for yet
	// supported and limit are projectquota's, but for tests.
	supported func(dir string) error
	limit     func(project uint32, size uint64, dirs ...string) error
}

func newQuotas() *quotas {
	return &quotas{supported: projectquota.Supported, limit: projectquota.Limit}
}

// size reads the option "size" in bytes, 0 without.
func size(opts map[string]string) (uint64, error) {
	text, ok := opts["size"]
	if !ok {
		return 0, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil {
		return 0, fault.Invalid("%w", err)
	}
	return uint64(max(n, 0)), nil
}

// check refuses a bound that cannot be kept, in docker's words.
func (q *quotas) check(dir string, opts map[string]string) error {
	n, err := size(opts)
	if err != nil || n == 0 {
		return err
	}
	if err := q.supported(dir); err != nil {
		return fault.Invalid("quota size requested but no quota support")
	}
	return nil
}

// bound gives a new volume its limit; data is its directory, others the volumes that may have one already.
func (q *quotas) bound(data string, opts map[string]string, others []string) error {
	n, err := size(opts)
	if err != nil || n == 0 {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == 0 {
		q.next = firstProject
		for _, dir := range others {
			if p, err := projectquota.Project(dir); err == nil && p >= q.next {
				q.next = p + 1
			}
		}
	}
	if err := q.limit(q.next, n, data); err != nil {
		return fmt.Errorf("quota of %s: %w", filepath.Dir(data), err)
	}
	q.next++
	return nil
}

// dataDirs are the directories of all volumes.
func (s *Service) dataDirs() []string {
	var dirs []string
	for _, e := range s.entries() {
		dirs = append(dirs, s.mountpoint(e.name))
	}
	return dirs
}
