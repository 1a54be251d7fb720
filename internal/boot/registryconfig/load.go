package registryconfig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"time"
)

// Problem is one mistake, or one remark, about a key.
type Problem struct {
	// Key is the path of the key, such as "http.auth.htpasswd.path"; empty for the document itself.
	Key string
	// Line is where it stands, 0 when it is missing.
	Line int
	Text string
}

func (p Problem) String() string {
	switch {
	case p.Key == "":
		return p.Text
	case p.Line == 0:
		return p.Key + ": " + p.Text
	}
	return fmt.Sprintf("%s (line %d): %s", p.Key, p.Line, p.Text)
}

// Error is a configuration that cannot be used, with all that is wrong with it.
type Error struct {
	Name     string
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return fmt.Sprintf("configuration %s: %s", e.Name, strings.Join(lines, "; "))
}

// maxFile bounds a configuration file in bytes.
const maxFile = 4 << 20

// Load reads a configuration file and the files of secrets that it names.
func Load(path string) (*Config, []Problem, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, warnings, err := Parse(path, data)
	if err != nil {
		return nil, nil, err
	}
	if err := c.loadSessionKeys(); err != nil {
		return nil, nil, err
	}
	return c, warnings, nil
}

// Parse reads and checks a document. The name's extension says whether it is JSON or YAML; without a known one, a
// document that begins with "{" is JSON.
func Parse(name string, data []byte) (*Config, []Problem, error) {
	root, err := read(name, data)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	d := &decoder{}
	c := Default()
	if root.kind != isObject || len(root.keys) == 0 {
		d.fail(root, "holds no keys")
	} else {
		d.into(root, reflect.ValueOf(c).Elem(), "")
	}
	if len(d.problems) == 0 {
		c.Settle()
		c.check(&checker{d: d, root: root})
	}
	if len(d.problems) > 0 {
		sort.SliceStable(d.problems, func(i, j int) bool { return d.problems[i].Line < d.problems[j].Line })
		return nil, nil, &Error{Name: name, Problems: d.problems}
	}
	return c, d.warnings, nil
}

func read(name string, data []byte) (*node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json":
		return readJSON(data)
	case ".yaml", ".yml":
		return readYAML(data)
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return readJSON(data)
	}
	return readYAML(data)
}

// Delays that hold when a configuration says nothing, as in zot.
const (
	DefaultGCDelay        = time.Hour
	DefaultGCInterval     = time.Hour
	DefaultRetentionDelay = 24 * time.Hour
)

// Default is what holds for keys that are not given.
func Default() *Config {
	yes := true
	c := &Config{
		DistSpecVersion: DistSpecVersion,
		Storage: Global{Storage: Storage{
			Dedupe: &yes, GC: &yes, GCDelay: DefaultGCDelay, GCInterval: DefaultGCInterval,
		}},
		HTTP: HTTP{Address: "127.0.0.1", Port: "8080"},
		Log:  Log{Level: "info"},
	}
	c.Settle()
	return c
}

// Settle fills what depends on other keys. Parse has done it already.
func (c *Config) Settle() {
	c.Storage.Storage.settle()
	for _, s := range c.Storage.SubPaths {
		if s != nil {
			s.settle()
		}
	}
	c.HTTP.settle()
	if c.Extensions != nil && c.Extensions.Metrics != nil {
		m := c.Extensions.Metrics
		if m.Enable == nil {
			yes := true
			m.Enable = &yes
		}
		if m.Prometheus == nil || m.Prometheus.Path == "" {
			m.Prometheus = &Prometheus{Path: "/metrics"}
		}
	}
}

// What holds for our own token server when a configuration says nothing.
const (
	DefaultTokenName   = "longshore"
	DefaultTokenExpiry = 5 * time.Minute
	DefaultTokenRotate = 30 * 24 * time.Hour
)

// settle drops sections that are switched off, and fills the others.
func (h *HTTP) settle() {
	a := h.Auth
	if a == nil {
		return
	}
	off := func(enable *bool) bool { return enable != nil && !*enable }
	if a.Accounts != nil && off(a.Accounts.Enable) {
		a.Accounts = nil
	}
	if a.Token != nil && off(a.Token.Enable) {
		a.Token = nil
	}
	t := a.Token
	if t == nil {
		return
	}
	if t.Service == "" {
		t.Service = DefaultTokenName
	}
	if t.Issuer == "" {
		t.Issuer = DefaultTokenName
	}
	if t.Expiry == 0 {
		t.Expiry = DefaultTokenExpiry
	}
	if t.RotateAfter == 0 {
		t.RotateAfter = DefaultTokenRotate
	}
	if t.Realm == "" && h.ExternalURL != "" {
		t.Realm = strings.TrimSuffix(h.ExternalURL, "/") + "/token"
	}
}

func (s *Storage) settle() {
	if s.GC != nil && *s.GC {
		if s.GCDelay == 0 {
			s.GCDelay = DefaultGCDelay
		}
		if s.GCInterval == 0 {
			s.GCInterval = DefaultGCInterval
		}
	}
	if s.Retention.Delay == nil {
		delay := DefaultRetentionDelay
		s.Retention.Delay = &delay
	}
	for i := range s.Retention.Policies {
		if p := &s.Retention.Policies[i]; p.DeleteUntagged == nil {
			yes := true
			p.DeleteUntagged = &yes
		}
	}
	if d := s.StorageDriver; d != nil && d.Name == "" && d.Bucket == "" && len(d.Other) == 0 {
		s.StorageDriver = nil
	}
	if d := s.StorageDriver; d != nil && d.ForcePathStyle == nil {
		style := d.RegionEndpoint != ""
		d.ForcePathStyle = &style
	}
}

// MetricsPath is where metrics are served, empty when they are not.
func (c *Config) MetricsPath() string {
	if c.Extensions == nil || c.Extensions.Metrics == nil || !*c.Extensions.Metrics.Enable {
		return ""
	}
	return c.Extensions.Metrics.Prometheus.Path
}

// sessionKeys is the document that http.auth.sessionKeysFile names.
type sessionKeys struct {
	HashKey    string `key:"hashKey"`
	EncryptKey string `key:"encryptKey"`
}

func (c *Config) loadSessionKeys() error {
	if c.HTTP.Auth == nil || c.HTTP.Auth.SessionKeysFile == "" {
		return nil
	}
	name := c.HTTP.Auth.SessionKeysFile
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read http.auth.sessionKeysFile: %w", err)
	}
	root, err := read(name, data)
	if err != nil {
		return fmt.Errorf("http.auth.sessionKeysFile %s: %w", name, err)
	}
	d, keys := &decoder{}, sessionKeys{}
	d.into(root, reflect.ValueOf(&keys).Elem(), "")
	switch len(keys.EncryptKey) {
	case 0, 16, 24, 32:
	default:
		d.fail(root, "encryptKey must be 16, 24 or 32 bytes long")
	}
	if keys.HashKey == "" {
		d.fail(root, "hashKey is missing")
	}
	if len(d.problems) > 0 {
		return &Error{Name: name, Problems: d.problems}
	}
	c.HTTP.Auth.HashKey, c.HTTP.Auth.EncryptKey = []byte(keys.HashKey), []byte(keys.EncryptKey)
	if keys.EncryptKey == "" {
		c.HTTP.Auth.EncryptKey = nil
	}
	return nil
}
