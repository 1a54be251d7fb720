package mounts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

func line(m core.Mount) string {
	s := fmt.Sprintf("%s name=%s src=%s dst=%s mode=%s rw=%v", m.Type, m.Name, m.Source, m.Destination, m.Mode, m.RW)
	for _, f := range []struct {
		on   bool
		name string
	}{{m.NoCopy, "nocopy"}, {m.Anonymous, "anonymous"}, {m.FromImage, "image"}, {m.Inherited, "inherited"}, {m.Hidden, "hidden"}} {
		if f.on {
			s += " " + f.name
		}
	}
	if m.TmpfsOptions != "" {
		s += " " + m.TmpfsOptions
	}
	if m.Propagation != "" {
		s += " " + string(m.Propagation)
	}
	return s
}

func TestParseBind(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/a:/b", "bind name= src=/a dst=/b mode= rw=true"},
		{"/a/../c:/b/:ro", "bind name= src=/c dst=/b mode=ro rw=false"},
		{"/a:/b:ro,z,rshared", "bind name= src=/a dst=/b mode=ro,z,rshared rw=false rshared"},
		{"v:/b", "volume name=v src= dst=/b mode=z rw=true"},
		{"v:/b:nocopy", "volume name=v src= dst=/b mode=nocopy rw=true nocopy"},
		{"/b", "volume name= src= dst=/b mode= rw=true anonymous"},
		{"", "error: invalid volume specification: ''"},
		{":/b", "error: invalid volume specification: ':/b'"},
		{"/a:/b:ro:x", "error: invalid volume specification: '/a:/b:ro:x'"},
		{"/b:ro", "error: invalid volume specification: '/b:ro'"},
		{"/a:/b:bogus", "error: invalid mode: bogus"},
		{"/a:/b:ro,rw", "error: invalid mode: ro,rw"},
		{"/a:/b:nocopy", "error: invalid mode: nocopy"},
		{"v:/b:shared", "error: invalid mode: shared"},
		{"/a:/", `error: invalid volume specification: '/a:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`},
		{"/a:b", `error: invalid volume specification: '/a:b': invalid mount config for type "bind": invalid mount path: 'b' mount path must be absolute`},
	} {
		m, err := ParseBind(c.in, "")
		got := line(m)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		in   mount.Mount
		want string
	}{
		{mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true}, "bind name= src=/a dst=/b mode= rw=false"},
		{mount.Mount{Type: "volume", Source: "v", Target: "/b"}, "volume name=v src= dst=/b mode=z rw=true"},
		{mount.Mount{Type: "volume", Target: "/b", VolumeOptions: &mount.VolumeOptions{NoCopy: true}}, "volume name= src= dst=/b mode=z rw=true nocopy anonymous"},
		{mount.Mount{Type: "tmpfs", Target: "/b", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1024, Mode: 0o1770}}, "tmpfs name= src= dst=/b mode= rw=true mode=1770,size=1024"},
		{mount.Mount{Type: "bind", Target: "/b"}, `error: invalid mount config for type "bind": field Source must not be empty`},
		{mount.Mount{Type: "bind", Source: "a", Target: "/b"}, `error: invalid mount config for type "bind": invalid mount path: 'a' mount path must be absolute`},
		{mount.Mount{Type: "tmpfs", Source: "a", Target: "/b"}, `error: invalid mount config for type "tmpfs": field Source must not be specified`},
		{mount.Mount{Type: "tmpfs", Target: "/b", BindOptions: &mount.BindOptions{}}, `error: invalid mount config for type "tmpfs": field BindOptions must not be specified`},
		{mount.Mount{Type: "bind", Source: "/a"}, `error: invalid mount config for type "bind": field Target must not be empty`},
		{mount.Mount{Type: "odd", Target: "/b"}, `error: invalid mount config for type "odd": mount type unknown`},
		{mount.Mount{Type: "volume", Source: "v", Target: "/b", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}}, `error: invalid mount config for type "volume": subpath must be a relative path within the volume`},
	} {
		m, err := ParseMount(&c.in)
		got := line(m)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestPrecedence(t *testing.T) {
	from := func(ref string) ([]core.Mount, error) {
		if ref != "donor" {
			return nil, fault.NotFound("No such container: %s", ref)
		}
		return []core.Mount{
			{MountPoint: container.MountPoint{Type: "volume", Name: "d1", Destination: "/one", RW: true}},
			{MountPoint: container.MountPoint{Type: "volume", Name: "d2", Destination: "/two", RW: true}},
			{MountPoint: container.MountPoint{Type: "tmpfs", Destination: "/tmp"}, Hidden: true},
		}, nil
	}
	cfg := &container.Config{Volumes: map[string]struct{}{"/two": {}, "/three": {}, "/four/": {}}}
	hc := &container.HostConfig{VolumesFrom: []string{"donor:ro"}, Binds: []string{"/h:/one"}, Tmpfs: map[string]string{"/four": "size=1m"}}
	list, err := Parse(cfg, hc, from, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		got = append(got, line(m))
	}
	want := []string{
		"bind name= src=/h dst=/one mode= rw=true rprivate",
		"volume name=d2 src= dst=/two mode= rw=false nocopy inherited",
		"tmpfs name= src= dst=/four mode= rw=true hidden size=1m",
		"volume name= src= dst=/three mode= rw=true anonymous image",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for spec, want := range map[string]string{
		"gone":         "No such container: gone",
		"donor:bogus":  "invalid mode: bogus",
		":ro":          `malformed volumes-from specification: ":ro"`,
		"donor:nocopy": "invalid mode: nocopy",
	} {
		_, err := Parse(&container.Config{}, &container.HostConfig{VolumesFrom: []string{spec}}, from, Rules{})
		if got := fmt.Sprint(err); got != want && !(err == nil && want == "") {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	_, err = Parse(&container.Config{}, &container.HostConfig{Binds: []string{"/a:/x", "/b:/x/"}}, from, Rules{})
	if err == nil || err.Error() != "Duplicate mount point: /x" {
		t.Errorf("duplicate: %v", err)
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "v:/b:z,nocopy", "/x", ":", "a:b:c:d", "/a:/b:rslave,delegated"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseBind(s, "")
		if err != nil {
			return
		}
		if !strings.HasPrefix(m.Destination, "/") || m.Destination == "/" || strings.Contains(m.Destination, "/../") {
			t.Errorf("%q gives target %q", s, m.Destination)
		}
		if m.Type == mount.TypeBind && !strings.HasPrefix(m.Source, "/") {
			t.Errorf("%q gives source %q", s, m.Source)
		}
	})
}
