package shimclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"longshore/internal/core/runtime"
)

// privateKB is the memory of a process that it shares with no other, and of that what it has written to.
func privateKB(t testing.TB, pid int) (private, dirty int) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Private_Dirty:":
			private += n
			dirty = n
		case "Private_Clean:":
			private += n
		}
	}
	return private, dirty
}

// TestIdleMemory: what a shim costs a machine that runs several containers.
func TestIdleMemory(t *testing.T) {
	runtimes(t, func(t *testing.T, b runtime.Binary) {
		r := newRig(t, b)
		var shims []int
		for range 3 {
			l := r.launch("sh", "-c", "echo started; exec sleep 1000")
			p := r.spawn(l)
			s := r.attach(p, runtime.AttachOptions{Stdout: true})
			r.check(p.Start(testContext(t)))
			r.expect(s, "started")
			s.Close()
			x, err := p.Exec(testContext(t), r.execLaunch("true"))
			r.check(err)
			_, err = x.Wait(testContext(t))
			r.check(err)
			shims = append(shims, readStateWait(r, l).pid("shim"))
		}
		for _, pid := range shims {
			private, dirty := privateKB(t, pid)
			t.Logf("private %d kB, dirty %d kB", private, dirty)
			if private > 1536 {
				t.Errorf("an idle shim has %d kB of its own, at most 1536", private)
			}
		}
	})
}

func benchRuntimes(b *testing.B, f func(b *testing.B, bin runtime.Binary)) {
	if os.Geteuid() != 0 {
		b.Skip("running containers needs root")
	}
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			b.Run(name, func(b *testing.B) {
				f(b, runtime.Binary{Name: name, Path: path, NoCgroup: name == "crun"})
			})
		}
	}
}

// BenchmarkTrue is spawn, start, wait and cleanup of /bin/true.
func BenchmarkTrue(b *testing.B) {
	benchRuntimes(b, func(b *testing.B, bin runtime.Binary) {
		r := newRig(b, bin)
		l := r.launch("true")
		for b.Loop() {
			p := r.spawn(l)
			r.check(p.Start(testContext(b)))
			r.wait(p)
			r.check(r.c.Cleanup(testContext(b), l))
		}
	})
}

// BenchmarkBare is "<runtime> run" of the same bundle.
func BenchmarkBare(b *testing.B) {
	benchRuntimes(b, func(b *testing.B, bin runtime.Binary) {
		r := newRig(b, bin)
		l := r.launch("true")
		bundle := filepath.Join(r.base, "bundle")
		r.check(os.Mkdir(bundle, 0o700))
		spec, err := json.Marshal(l.Spec)
		r.check(err)
		r.check(os.WriteFile(filepath.Join(bundle, specName), spec, 0o600))
		argv := append(commandLine(r.b)[1:], "run", "--bundle", bundle)
		for i := 0; b.Loop(); i++ {
			if out, err := exec.Command(bin.Path, append(argv, fmt.Sprintf("bare%d", i))...).CombinedOutput(); err != nil {
				b.Fatal(err, string(out))
			}
		}
	})
}

// BenchmarkSpawn is a shim that is spawned, answers, and is cleaned up without a container.
func BenchmarkSpawn(b *testing.B) {
	benchRuntimes(b, func(b *testing.B, bin runtime.Binary) {
		r := newRig(b, bin)
		l := r.launch("true")
		for b.Loop() {
			p := r.spawn(l)
			r.check(p.Resize(testContext(b), 1, 1))
			r.check(r.c.Cleanup(testContext(b), l))
		}
	})
}

func BenchmarkExecTrue(b *testing.B) {
	benchRuntimes(b, func(b *testing.B, bin runtime.Binary) {
		r := newRig(b, bin)
		p := r.spawn(r.launch("sleep", "10000"))
		r.check(p.Start(testContext(b)))
		for b.Loop() {
			x, err := p.Exec(testContext(b), r.execLaunch("true"))
			r.check(err)
			if _, err := x.Wait(testContext(b)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAttachLogged is 200 MB of log lines from a container into the json-file log and an attached client.
func BenchmarkAttachLogged(b *testing.B) {
	benchRuntimes(b, func(b *testing.B, bin runtime.Binary) {
		const size = 200 << 20
		r := newRig(b, bin)
		line := []byte(strings.Repeat("a line of some service's log, ", 3) + "\n")
		text := bytes.Repeat(line, (1<<20)/len(line))
		f, err := os.Create(filepath.Join(r.root, "text"))
		r.check(err)
		n := 0
		for n < size {
			k, err := f.Write(text)
			r.check(err)
			n += k
		}
		r.check(f.Close())
		logs, err := os.MkdirTemp("/dev/shm", "ls")
		r.check(err)
		defer os.RemoveAll(logs)
		b.SetBytes(int64(n))
		for b.Loop() {
			b.StopTimer()
			l := r.launch("cat", "/text")
			l.Log.Path = filepath.Join(logs, "x.log") // memory: a disk may be slower than all of this
			r.check(os.RemoveAll(l.Log.Path))
			p := r.spawn(l)
			s := r.attach(p, runtime.AttachOptions{Stdout: true, Stderr: true})
			b.StartTimer()
			r.check(p.Start(testContext(b)))
			got, err := io.Copy(io.Discard, s)
			r.check(err)
			r.wait(p)
			if got < int64(n) {
				b.Fatalf("%d bytes came", got)
			}
		}
	})
}
