package shimproto

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	var b bytes.Buffer
	want := []Frame{{Kind: Start, Call: 7}, {Kind: Reply, Call: 1 << 31, Payload: []byte("payload")}}
	for _, f := range want {
		if err := f.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	torn := b.Bytes()[:b.Len()-1]
	for _, w := range want {
		if f, err := Read(&b); err != nil || !reflect.DeepEqual(f, w) {
			t.Errorf("%+v %v", f, err)
		}
	}
	if _, err := Read(&b); err != io.EOF {
		t.Error(err)
	}
	r := bytes.NewReader(torn)
	Read(r)
	if _, err := Read(r); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	for _, bad := range []string{"\x00\x00\x00\x04\x01\x00\x00\x00\x00", "\xff\x00\x00\x04\x01\x00\x00\x00\x00"} {
		if _, err := Read(strings.NewReader(bad)); err != ErrFrame {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestMessages(t *testing.T) {
	c := Config{
		ID: "id", Dir: "/run/x", Runtime: []string{"/usr/bin/crun", "--root", "/r"}, CgroupDirs: []string{"/a", "/b"}, HideMounts: []string{"/h"},
		OOMFiles: []string{"/o"}, Terminal: true, StdinOnce: true, KillAll: true, Height: 24, Width: 80,
		LogDriver: "json-file", LogPath: "/l", LogMaxSize: -1, LogMaxFiles: 3, LogCompress: true, LogAttrs: `{"a":"b"}`, UID: 100000, GID: 7, Restore: "/cp",
	}
	if got, err := DecodeConfig(c.Encode()); err != nil || !reflect.DeepEqual(*got, c) {
		t.Errorf("%+v %v", got, err)
	}
	s := State{Phase: Ended, PID: 5, Exit: Exit{Code: 137, AtUnixNano: 9, OOMKilled: true, Error: "e"}, Enters: true}
	if got, err := DecodeState(s.Encode()); err != nil || got != s {
		t.Errorf("%+v %v", got, err)
	}
	a := Answer{Status: RuntimeFailed, PID: 3, Text: "words"}
	if got, err := DecodeAnswer(a.Encode()); err != nil || got != a {
		t.Errorf("%+v %v", got, err)
	}
	e := ExecRequest{ID: "x", Terminal: true, Stdin: true, Stderr: true, Height: 1, Width: 2}
	if got, err := DecodeExec(e.Encode()); err != nil || got != e || !got.HasStream() {
		t.Errorf("%+v %v", got, err)
	}
	e.Terminal, e.Plan = false, &Plan{
		Args: []string{"sh", "-c", "x"}, Env: []string{"A=b"}, Cwd: "/w", UID: 1 << 31, GID: 7, Groups: []uint32{7, 8}, Umask: 0o27,
		Caps:    Caps{Bounding: 1 << 40, Effective: 3, Permitted: 3, Inheritable: 2, Ambient: 1},
		Rlimits: []Rlimit{{Resource: 7, Soft: 1, Hard: 1<<64 - 1}}, NoNewPrivileges: true, SetScore: true, Score: -5, Filter: "/f", Document: "{}",
	}
	if got, err := DecodeExec(e.Encode()); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("%+v %v", got, err)
	}
	var b bytes.Buffer
	p := Preface{Purpose: ExecConn, Flags: WantStdin | WantStderr, ExecID: "x"}
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPreface(&b); err != nil || got != p {
		t.Errorf("%+v %v", got, err)
	}
}

// TestVersions: shims and daemons of different versions live beside one another.
func TestVersions(t *testing.T) {
	old := ExecRequest{ID: "x", Stdout: true}
	if got, err := DecodeExec(old.Encode()); err != nil || got.Plan != nil {
		t.Errorf("a request without a plan: %+v %v", got, err)
	}
	with := old
	with.Plan = &Plan{Args: []string{"true"}}
	if !bytes.HasPrefix(with.Encode(), old.Encode()) {
		t.Error("the plan is not behind what an older shim reads")
	}
	hello := State{Phase: Running, PID: 5, Enters: true}.Encode()
	if got, err := DecodeState(hello[:len(hello)-1]); err != nil || got.Enters || got.PID != 5 {
		t.Errorf("the Hello of an older shim: %+v %v", got, err)
	}
}

// FuzzDecode: nothing that comes over a socket makes a decoder fail otherwise than with ErrFrame, or take more memory
// than was sent.
func FuzzDecode(f *testing.F) {
	c := Config{ID: "id", Runtime: []string{"a", "b"}}
	f.Add(c.Encode())
	f.Add(State{Phase: Running, PID: 1}.Encode())
	f.Add(ExecRequest{ID: "x", Plan: &Plan{Args: []string{"a"}, Groups: []uint32{1}}}.Encode())
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeConfig(b); err == nil && len(c.Runtime) > len(b) {
			t.Error("more strings than bytes")
		} else if err != nil && err != ErrFrame {
			t.Error(err)
		}
		for _, err := range []error{
			second(DecodeState(b)), second(DecodeAnswer(b)), second(DecodeExec(b)), second(ReadPreface(bytes.NewReader(b))),
		} {
			if err != nil && err != ErrFrame && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Error(err)
			}
		}
		Read(bytes.NewReader(b))
	})
}

func second[T any](_ T, err error) error { return err }
