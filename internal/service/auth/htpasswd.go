package auth

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// htpasswd is a password file: lines of "user:hash" with bcrypt ($2a$, $2b$, $2y$) or sha-crypt ($5$, $6$) hashes.
// Other lines are comments or kinds of hash that are broken; their users cannot log in.
//
// The file is looked at again when it is used and a second has passed.
type htpasswd struct {
	path string
	now  func() time.Time

	mu      sync.RWMutex // guards what follows
	users   map[string]string
	checked time.Time
	size    int64
	changed time.Time
}

// recheck is how often the file is looked at.
const recheck = time.Second

func newHTPasswd(path string, now func() time.Time) (*htpasswd, error) {
	h := &htpasswd{path: path, now: now}
	return h, h.read()
}

// maxPasswd bounds a password file in bytes.
const maxPasswd = 16 << 20

func (h *htpasswd) read() error {
	info, err := os.Stat(h.path)
	if err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	if info.Size() > maxPasswd {
		return fmt.Errorf("password file %s is larger than %d bytes", h.path, maxPasswd)
	}
	data, err := os.ReadFile(h.path)
	if err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	users := parsePasswd(data)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users, h.size, h.changed, h.checked = users, info.Size(), info.ModTime(), h.now()
	return nil
}

// cost is what the first bcrypt hash of the file costs, as far as strangers' passwords may cost it too.
func (h *htpasswd) cost() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, hash := range h.users {
		if cost, err := bcrypt.Cost([]byte(hash)); err == nil && strings.HasPrefix(hash, "$2") {
			return min(cost, bcrypt.DefaultCost)
		}
	}
	return bcrypt.MinCost
}

func parsePasswd(data []byte) map[string]string {
	users := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		user, hash, ok := strings.Cut(line, ":")
		if ok && user != "" && !strings.HasPrefix(line, "#") {
			hash, _, _ = strings.Cut(hash, ":")
			users[user] = hash
		}
	}
	return users
}

// refresh reads the file again when it has changed. A file that cannot be read leaves things as they were.
func (h *htpasswd) refresh() {
	h.mu.RLock()
	due := h.now().Sub(h.checked) >= recheck
	size, changed := h.size, h.changed
	h.mu.RUnlock()
	if !due {
		return
	}
	info, err := os.Stat(h.path)
	if err != nil || info.Size() == size && info.ModTime().Equal(changed) || h.read() != nil {
		h.mu.Lock()
		h.checked = h.now()
		h.mu.Unlock()
	}
}

func (h *htpasswd) has(user string) bool {
	_, ok := h.hash(user)
	return ok
}

// hash is what a user's password is compared with.
func (h *htpasswd) hash(user string) (string, bool) {
	h.refresh()
	h.mu.RLock()
	defer h.mu.RUnlock()
	hash, ok := h.users[user]
	return hash, ok
}

func verifyHash(hash, password string) bool {
	switch {
	case strings.HasPrefix(hash, "$2"):
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"):
		return shaCrypt(hash, password)
	}
	return false
}
