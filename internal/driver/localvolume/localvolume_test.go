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

func TestResolve(t *testing.T) {
	for _, c := range []struct{ kind, device, data, wantDevice, wantData string }{
		{"tmpfs", "tmpfs", "addr=localhost", "tmpfs", "addr=localhost"},
		{"nfs", ":/e", "addr=192.0.2.1,rw", ":/e", "addr=192.0.2.1,rw"},
		{"nfs4", ":/e", "nolock,addr=2001:db8::1", ":/e", "nolock,addr=2001:db8::1"},
		{"nfs", ":/e", "addr=localhost,rw", ":/e", "addr=127.0.0.1,rw"},
		{"nfs", "//localhost/e", "", "//localhost/e", ""},
		{"cifs", "//localhost/share/a b", "username=u", "//127.0.0.1/share/a b", "username=u"},
		{"cifs", "//192.0.2.1/share", "", "//192.0.2.1/share", ""},
		{"cifs", "//nas.invalid/share", "addr=192.0.2.1", "//nas.invalid/share", "addr=192.0.2.1"},
	} {
		if device, data, err := resolve(t.Context(), c.kind, c.device, c.data); err != nil || device != c.wantDevice || data != c.wantData {
			t.Errorf("%s %s %s: %q %q %v", c.kind, c.device, c.data, device, data, err)
		}
	}
	for kind, data := range map[string]string{"nfs": "addr=no.such.host.invalid", "cifs": ""} {
		if _, _, err := resolve(t.Context(), kind, "//no.such.host.invalid/x", data); err == nil || !strings.Contains(err.Error(), "error resolving passed in network volume address") {
			t.Error(kind, err)
		}
	}
}

func TestPasswordsAreNotTold(t *testing.T) {
	if got := withoutPassword("username=u,password=secret,pass=secret,vers=3.0"); got != "username=u,password=********,pass=********,vers=3.0" {
		t.Error(got)
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
