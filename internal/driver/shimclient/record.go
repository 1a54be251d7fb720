package shimclient

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

const (
	// launchName is the launch record; config.json beside it is the OCI specification.
	launchName = "launch.json"
	specName   = "config.json"
)

// launchRecord is the launch as stored. The specification is in the bundle; only the command's name, for messages, and
// what cleaning needs of it are here.
type launchRecord struct {
	runtime.Launch
	// PostStop: the specification has hooks that only the OCI runtime's own "delete" runs.
	PostStop bool `json:",omitempty"`
	// Ground is missing in records of older daemons.
	Ground *ground `json:",omitempty"`
}

// writeBundle writes the specification, then the launch record, which says that the bundle is complete.
func writeBundle(l runtime.Launch) error {
	spec := *l.Spec
	process := *spec.Process
	process.Terminal = l.Terminal
	if l.Terminal && l.ConsoleHeight != 0 && l.ConsoleWidth != 0 {
		process.ConsoleSize = &specs.Box{Height: l.ConsoleHeight, Width: l.ConsoleWidth}
	}
	spec.Process = &process
	b, err := json.Marshal(&spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.Dir, specName), b, 0o600); err != nil {
		return err
	}
	r := launchRecord{Launch: l, PostStop: spec.Hooks != nil && len(spec.Hooks.Poststop) > 0, Ground: groundOf(&l)}
	r.Spec = commandOnly(l.Spec)
	if b, err = json.Marshal(&r); err != nil {
		return err
	}
	return replace(filepath.Join(l.Dir, launchName), b)
}

// commandOnly is a specification with nothing but the command's name.
func commandOnly(s *specs.Spec) *specs.Spec {
	if s == nil || s.Process == nil {
		return nil
	}
	return &specs.Spec{Process: &specs.Process{Args: s.Process.Args[:min(len(s.Process.Args), 1)]}}
}

// readLaunch reads the record of an earlier Spawn. fs.ErrNotExist when there is none.
func readLaunch(dir string) (launchRecord, error) {
	var r launchRecord
	b, err := os.ReadFile(filepath.Join(dir, launchName))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	r.Dir = dir
	return r, err
}

func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// readExit reads the exit record; nil without an error when there is none.
func readExit(l runtime.Launch) (*runtime.Exit, error) {
	b, err := os.ReadFile(filepath.Join(l.Dir, shimproto.ExitName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var e struct {
		Code       int
		AtUnixNano int64
		OOMKilled  bool
		Error      string
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	x := exitOf(l, shimproto.Exit(e))
	return &x, nil
}

// exitOf translates the shim's exit. A run that never started carries the OCI runtime's log, which tells the code.
func exitOf(l runtime.Launch, e shimproto.Exit) runtime.Exit {
	x := runtime.Exit{Code: e.Code, At: time.Unix(0, e.AtUnixNano), OOMKilled: e.OOMKilled, Error: e.Error}
	if e.Error != "" {
		f := startFailure(l, e.Error)
		x.Code, x.Error = f.Code, f.Message
	}
	return x
}

// pidState is what a shim noted about itself and its container: a pid and its start time.
type pidState map[string][2]string

func readState(dir string) pidState {
	b, err := os.ReadFile(filepath.Join(dir, shimproto.StateName))
	if err != nil {
		return nil
	}
	st := pidState{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			st[f[0]] = [2]string{f[1], f[2]}
		}
	}
	return st
}

// pid is the noted process if it still is the same one; 0 otherwise.
func (s pidState) pid(name string) int {
	pid, err := strconv.Atoi(s[name][0])
	if err != nil || pid <= 1 || startTime(pid) != s[name][1] {
		return 0
	}
	return pid
}

// startTime is field 22 of /proc/<pid>/stat; "" for a process that is gone or a zombie.
func startTime(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	s := string(b)
	if f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]); len(f) >= 20 && f[0] != "Z" {
		return f[19]
	}
	return ""
}

// localAttrs encodes attributes as field 6 of the local driver's LogEntry, sorted by key as docker sorts them.
func localAttrs(attrs map[string]string) string {
	field := func(b []byte, n byte, v string) []byte {
		b = binary.AppendUvarint(append(b, n<<3|2), uint64(len(v)))
		return append(b, v...)
	}
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		var kv []byte
		kv = field(kv, 1, k)
		if attrs[k] != "" {
			kv = field(kv, 2, attrs[k])
		}
		b = field(b, 6, string(kv))
	}
	return string(b)
}
