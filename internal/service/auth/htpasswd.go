package auth

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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
// The file is looked at again when it is used and a second has passed. A password that was right is remembered by a keyed
// hash, because bcrypt costs more than the request it protects; the memory dies with the user's line.
type htpasswd struct {
	path string
	now  func() time.Time
	key  []byte
	// decoy is what the password of an unknown user is compared with, so that the time does not tell who is known.
	decoy string

	mu      sync.RWMutex // guards what follows
	users   map[string]string
	right   map[[sha256.Size]byte]string // proof -> the hash it was right for
	checked time.Time
	size    int64
	changed time.Time
}

// recheck is how often the file is looked at.
const recheck = time.Second

// maxRemembered bounds the memory of right passwords.
const maxRemembered = 10_000

func newHTPasswd(path string, now func() time.Time) (*htpasswd, error) {
	h := &htpasswd{path: path, now: now, key: make([]byte, 32)}
	rand.Read(h.key) // never fails
	decoy, err := bcrypt.GenerateFromPassword(h.key[:16], bcrypt.MinCost)
	if err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	h.decoy = string(decoy)
	if err := h.read(); err != nil {
		return nil, err
	}
	return h, nil
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
	h.right = map[[sha256.Size]byte]string{}
	for _, hash := range users { // compare strangers at the users' own price
		if cost, err := bcrypt.Cost([]byte(hash)); err == nil && strings.HasPrefix(hash, "$2") {
			if own, _ := bcrypt.Cost([]byte(h.decoy)); own < cost && cost <= bcrypt.DefaultCost {
				if d, err := bcrypt.GenerateFromPassword(h.key[:16], cost); err == nil {
					h.decoy = string(d)
				}
			}
			break
		}
	}
	return nil
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
	h.refresh()
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.users[user]
	return ok
}

func (h *htpasswd) check(user, password string) bool {
	h.refresh()
	proof := h.proof(user, password)
	h.mu.RLock()
	hash, known := h.users[user]
	remembered, ok := h.right[proof]
	h.mu.RUnlock()
	if known && ok && remembered == hash {
		return true
	}
	if !known {
		hash = h.decoy
	}
	if !verifyHash(hash, password) || !known {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.right) >= maxRemembered {
		clear(h.right)
	}
	h.right[proof] = hash
	return true
}

func (h *htpasswd) proof(user, password string) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, h.key)
	fmt.Fprintf(m, "%d:%s:%s", len(user), user, password)
	m.Sum(sum[:0])
	return sum
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
