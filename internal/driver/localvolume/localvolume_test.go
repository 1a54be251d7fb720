package localvolume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	for text, want := range map[string]struct {
		flags uintptr
		data  string
	}{
		"":                           {0, ""},
		"defaults":                   {0, ""},
		"ro,noexec,size=1m":          {unix.MS_RDONLY | unix.MS_NOEXEC, "size=1m"},
		"ro,rw":                      {0, ""},
		"nodev,dev,bind":             {unix.MS_BIND, ""},
		"rbind":                      {unix.MS_BIND | unix.MS_REC, ""},
		"addr=1.2.3.4,,nfsvers=4,rw": {0, "addr=1.2.3.4,nfsvers=4"},
		"uid=1000,mode=0700":         {0, "uid=1000,mode=0700"},
	} {
		if flags, data := parseOptions(text); flags != want.flags || data != want.data {
			t.Errorf("%q: %x %q", text, flags, data)
		}
	}
}

func TestResolveAddr(t *testing.T) {
	for _, c := range []struct{ kind, data, want string }{
		{"tmpfs", "addr=localhost", "addr=localhost"},
		{"nfs", "addr=192.0.2.1,rw", "addr=192.0.2.1,rw"},
		{"nfs4", "nolock,addr=2001:db8::1", "nolock,addr=2001:db8::1"},
	} {
		if got, err := resolveAddr(t.Context(), c.kind, c.data); err != nil || got != c.want {
			t.Errorf("%s %s: %q %v", c.kind, c.data, got, err)
		}
	}
	got, err := resolveAddr(t.Context(), "nfs", "addr=localhost,rw")
	if err != nil || (got != "addr=127.0.0.1,rw" && got != "addr=::1,rw") {
		t.Error(got, err)
	}
	if _, err := resolveAddr(t.Context(), "nfs", "addr=no.such.host.invalid"); err == nil || !strings.Contains(err.Error(), "error resolving passed in network volume address") {
		t.Error(err)
	}
}

func TestUnmountOfNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	for _, target := range []string{dir, filepath.Join(dir, "gone")} {
		if err := Unmount(target); err != nil {
			t.Error(err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("size", "1g", "type", "tmpfs")
	f.Add("o", "bind", "device", "/x")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		opts := map[string]string{k1: v1, k2: v2}
		if Check(opts) != nil {
			return
		}
		for k := range opts {
			if _, ok := required[k]; !ok {
				t.Fatalf("option %q was taken", k)
			}
		}
		if _, ok := opts["o"]; ok {
			t.Fatal("o without device and type was taken")
		}
	})
}
