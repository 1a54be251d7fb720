package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/volume"
	"longshore/internal/core/volume/volumetest"
	"longshore/internal/driver/bolt"
	"longshore/internal/driver/localvolume"
)

// recorder keeps what was published.
type recorder struct {
	mu  sync.Mutex
	got []string
}

func (r *recorder) Publish(_ context.Context, m events.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprint(m.Type, " ", m.Action, " ", m.Actor.ID, " ", m.Actor.Attributes))
}

type fixture struct {
	*Service
	root   string
	store  *bolt.Store
	events *recorder
}

func open(t *testing.T, root string) *fixture {
	t.Helper()
	store, err := bolt.Open(filepath.Join(root, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	rec := &recorder{}
	s, err := New(root, store, rec)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{s, root, store, rec}
}

func (f *fixture) reopen(t *testing.T) *fixture {
	t.Helper()
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, f.root)
}

func TestConformance(t *testing.T) {
	volumetest.Run(t, func(t *testing.T) volume.Volumes { return open(t, t.TempDir()).Service })
}

func create(t *testing.T, f *fixture, o volume.CreateOptions, refs ...string) volume.Volume {
	t.Helper()
	v, err := f.Create(t.Context(), o)
	for _, ref := range refs {
		if err == nil {
			v, _, err = f.Ensure(t.Context(), volume.CreateOptions{Name: v.Name}, ref)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestErrors has docker's words.
func TestErrors(t *testing.T) {
	f := open(t, t.TempDir())
	create(t, f, volume.CreateOptions{Name: "used"}, "cafe", "beef")
	with := func(name string, kv ...string) volume.CreateOptions {
		o := volume.CreateOptions{Name: name, Options: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			o.Options[kv[i]] = kv[i+1]
		}
		return o
	}
	made := func(o volume.CreateOptions) error { _, err := f.Create(t.Context(), o); return err }
	inspected := func(name string) error { _, err := f.Inspect(t.Context(), name); return err }
	for _, c := range []struct {
		err   error
		class error
		text  string
	}{
		{made(volume.CreateOptions{Name: "a/b"}), errdefs.ErrInvalidArgument, `create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{made(volume.CreateOptions{Name: "a"}), errdefs.ErrInvalidArgument, "create a: volume name is too short, names should be at least two alphanumeric characters"},
		{made(with("xx", "foo", "bar")), errdefs.ErrInvalidArgument, `create xx: invalid option: "foo"`},
		{made(with("xx", "type", "tmpfs")), errdefs.ErrInvalidArgument, `create xx: missing required option: "device"`},
		{made(with("xx", "o", "ro")), errdefs.ErrInvalidArgument, `create xx: missing required option: "device"`},
		{made(with("xx", "size", "1g")), errdefs.ErrInvalidArgument, `create xx: quota size requested but no quota support`},
		{made(volume.CreateOptions{Name: "xx", Driver: "nope"}), errdefs.ErrNotFound, `create xx: error looking up volume plugin nope: plugin "nope" not found`},
		{inspected("xx"), errdefs.ErrNotFound, "get xx: no such volume"},
		{f.Remove(t.Context(), "xx", RemoveOptions{}), errdefs.ErrNotFound, "get xx: no such volume"},
		{f.Remove(t.Context(), "used", RemoveOptions{Force: true}), errdefs.ErrConflict, "remove used: volume is in use - [beef, cafe]"},
		{made(volume.CreateOptions{Name: strings.Repeat("n", 250)}), errdefs.ErrInvalidArgument, ""},
		{f.Remove(t.Context(), "xx", RemoveOptions{Force: true}), nil, ""},
	} {
		if c.class == nil {
			if c.err != nil {
				t.Error(c.err)
			}
			continue
		}
		if !errors.Is(c.err, c.class) || (c.text != "" && c.err.Error() != c.text) {
			t.Errorf("%v, want %s", c.err, c.text)
		}
	}
	if list, _ := f.List(t.Context(), nil); len(list) != 1 {
		t.Error("a refused volume exists:", list)
	}
	if d, _ := os.ReadDir(f.dir); len(d) != 1 {
		t.Error("a refused volume left a directory")
	}
}

func TestList(t *testing.T) {
	f := open(t, t.TempDir())
	create(t, f, volume.CreateOptions{Name: "web-data", Labels: map[string]string{"tier": "web", "x": ""}}, "c1")
	create(t, f, volume.CreateOptions{Name: "db-data", Labels: map[string]string{"tier": "db"}})
	create(t, f, volume.CreateOptions{Name: "other"})
	for filter, want := range map[string]string{
		"":                 "db-data other web-data",
		"name=data":        "db-data web-data",
		"name=^db,other":   "db-data other",
		"name=[":           "",
		"dangling=true":    "db-data other",
		"dangling=0":       "web-data",
		"driver=local":     "db-data other web-data",
		"driver=nfs":       "",
		"label=tier":       "db-data web-data",
		"label=tier=web":   "web-data",
		"label=tier=web,x": "web-data",
		"label=x,tier=db":  "",
	} {
		list, err := f.List(t.Context(), parse(filter))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range list {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
	for filter, text := range map[string]string{
		"dangling=maybe":      "invalid filter 'dangling=[maybe]'",
		"dangling=true,false": "invalid filter 'dangling=[true false]'",
		"size=3":              "invalid filter 'size'",
	} {
		if _, err := f.List(t.Context(), parse(filter)); !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != text {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

func parse(filter string) map[string][]string {
	if filter == "" {
		return nil
	}
	name, values, _ := strings.Cut(filter, "=")
	return map[string][]string{name: strings.Split(values, ",")}
}

func TestPrune(t *testing.T) {
	f := open(t, t.TempDir())
	anon := create(t, f, volume.CreateOptions{})
	create(t, f, volume.CreateOptions{}, "c1")
	create(t, f, volume.CreateOptions{Name: "named", Labels: map[string]string{"keep": "1"}})
	create(t, f, volume.CreateOptions{Name: "plain"})
	if err := os.WriteFile(filepath.Join(anon.Mountpoint, "f"), make([]byte, 1234), 0o600); err != nil {
		t.Fatal(err)
	}
	prune := func(filters map[string][]string, space uint64, want ...string) {
		t.Helper()
		r, err := f.Prune(t.Context(), filters)
		if err != nil || !slices.Equal(r.VolumesDeleted, want) || r.SpaceReclaimed != space {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	prune(map[string][]string{"label": {"keep"}}, 0, []string{}...)
	prune(nil, 1234, anon.Name)
	prune(map[string][]string{"all": {"true"}, "label!": {"keep"}}, 0, "plain")
	prune(map[string][]string{"all": {"1"}}, 0, "named")
	if _, err := f.Prune(t.Context(), map[string][]string{"until": {"1h"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Fatal(err)
	}
	if last := f.events.got[len(f.events.got)-1]; last != "volume prune  map[reclaimed:0]" {
		t.Fatal(last)
	}
}

func TestEvents(t *testing.T) {
	f := open(t, t.TempDir())
	create(t, f, volume.CreateOptions{Name: "vv"})
	create(t, f, volume.CreateOptions{Name: "vv"})
	if err := f.Remove(t.Context(), "vv", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"volume create vv map[driver:local]", "volume destroy vv map[driver:local]"}
	if !slices.Equal(f.events.got, want) {
		t.Fatal(f.events.got)
	}
}

func TestUsage(t *testing.T) {
	f := open(t, t.TempDir())
	a := create(t, f, volume.CreateOptions{Name: "active"}, "c1")
	b := create(t, f, volume.CreateOptions{Name: "idle"})
	create(t, f, volume.CreateOptions{Name: "far", Options: map[string]string{"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"}})
	for path, size := range map[string]int{a.Mountpoint + "/f": 1000, b.Mountpoint + "/f": 30} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(a.Mountpoint+"/f", a.Mountpoint+"/again"); err != nil {
		t.Fatal(err)
	}
	u, err := f.Usage(t.Context(), UsageOptions{Items: true})
	if err != nil || u.TotalCount != 3 || u.ActiveCount != 1 || u.TotalSize != 1030 || u.Reclaimable != 30 {
		t.Fatalf("%+v %v", u, err)
	}
	if u.Items[0].UsageData.RefCount != 1 || u.Items[0].UsageData.Size != 1000 || u.Items[1].UsageData.Size != -1 {
		t.Fatal(u.Items)
	}
}

// TestRestart: records, references and labels survive; what was interrupted is finished.
func TestRestart(t *testing.T) {
	f := open(t, t.TempDir())
	kept := create(t, f, volume.CreateOptions{Name: "kept", Labels: map[string]string{"a": "b"}}, "c1")
	half := create(t, f, volume.CreateOptions{Name: "half"})
	create(t, f, volume.CreateOptions{Name: "lost"})
	if err := os.WriteFile(filepath.Join(half.Mountpoint, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A removal that stopped after the rename, one that stopped while deleting files, a directory that a power cut took,
	// a creation that stopped before the record, and another daemon's volumes.
	must(os.Rename(filepath.Join(f.dir, "half"), filepath.Join(f.dir, removingName("half"))))
	must(os.MkdirAll(filepath.Join(f.dir, removingName("gone"), "_data", "x"), 0o700))
	must(os.RemoveAll(filepath.Join(f.dir, "lost")))
	must(os.MkdirAll(filepath.Join(f.dir, "unborn", "_data"), 0o700))
	must(os.MkdirAll(filepath.Join(f.dir, "theirs", "_data", "x"), 0o700))
	must(os.MkdirAll(filepath.Join(f.dir, "opted", "_data"), 0o700))
	must(os.WriteFile(filepath.Join(f.dir, "opted", "opts.json"), []byte(`{"MountType":"tmpfs","MountOpts":"size=1m","MountDevice":"tmpfs","Quota":{"Size":0}}`), 0o600))

	f = f.reopen(t)
	list, err := f.List(t.Context(), nil)
	must(err)
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
		if _, err := os.Stat(v.Mountpoint); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(names, " "); got != "half kept lost opted theirs" {
		t.Fatal(got)
	}
	if _, err := os.Stat(filepath.Join(half.Mountpoint, "f")); err != nil {
		t.Error("data of an unfinished removal:", err)
	}
	if d, _ := os.ReadDir(f.dir); len(d) != 5 {
		t.Error("directories left:", d)
	}
	if v, err := f.Inspect(t.Context(), "kept"); err != nil || v.Labels["a"] != "b" || v.Mountpoint != kept.Mountpoint {
		t.Error(v, err)
	}
	if v, err := f.Inspect(t.Context(), "opted"); err != nil || v.Options["o"] != "size=1m" {
		t.Error(v, err)
	}
	if err := f.Remove(t.Context(), "kept", RemoveOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Error("the reference was lost:", err)
	}
	must(f.Reconcile(t.Context(), func(string) bool { return false }))
	must(f.Remove(t.Context(), "kept", RemoveOptions{}))
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
}

func TestTmpfsVolume(t *testing.T) {
	needRoot(t)
	f := open(t, t.TempDir())
	v := create(t, f, volume.CreateOptions{Name: "ram", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nodev,uid=1000"}}, "c1", "c2")
	t.Cleanup(func() { _ = localvolume.Unmount(v.Mountpoint) })
	mounted := func(want bool) {
		t.Helper()
		if got, err := localvolume.Mounted(v.Mountpoint); err != nil || got != want {
			t.Fatal("mounted:", got, err)
		}
	}
	for _, ref := range []string{"c1", "c1", "c2"} {
		if _, err := f.Mount(t.Context(), "ram", ref); err != nil {
			t.Fatal(err)
		}
	}
	mounted(true)
	if err := os.WriteFile(v.Mountpoint+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A new daemon knows who has it mounted.
	f = f.reopen(t)
	if err := f.Unmount(t.Context(), "ram", "c1"); err != nil {
		t.Fatal(err)
	}
	mounted(true)
	// c2 died with the old daemon.
	if err := f.Reconcile(t.Context(), func(ref string) bool { return ref == "c1" }); err != nil {
		t.Fatal(err)
	}
	mounted(false)
	if _, err := f.Mount(t.Context(), "ram", "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.Mountpoint + "/f"); !os.IsNotExist(err) {
		t.Error("a tmpfs kept its content:", err)
	}
	if err := f.Release(t.Context(), "ram", "c1", false); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "ram", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	mounted(false)
}

func TestBindVolume(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	if err := os.WriteFile(src+"/f", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := open(t, t.TempDir())
	v := create(t, f, volume.CreateOptions{Name: "bound", Options: map[string]string{"type": "none", "device": src, "o": "bind,ro"}}, "c1")
	t.Cleanup(func() { _ = localvolume.Unmount(v.Mountpoint) })
	if _, err := f.Mount(t.Context(), "bound", "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.Mountpoint + "/f"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.Mountpoint+"/g", nil, 0o600); err == nil {
		t.Error("ro was lost")
	}
	if err := f.Unmount(t.Context(), "bound", "c1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Release(t.Context(), "bound", "c1", false); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), "bound", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(src + "/f"); err != nil {
		t.Fatal("removing a bind volume removed its source:", err)
	}
}

func TestMountFailure(t *testing.T) {
	needRoot(t)
	f := open(t, t.TempDir())
	v := create(t, f, volume.CreateOptions{Name: "bad", Options: map[string]string{"type": "none", "device": "/no/such", "o": "bind"}}, "c1")
	_, err := f.Mount(t.Context(), "bad", "c1")
	want := fmt.Sprintf("error while mounting volume '%s': failed to mount local volume: mount /no/such:%s, flags: 0x1000: no such file or directory", v.Mountpoint, v.Mountpoint)
	if err == nil || err.Error() != want {
		t.Fatalf("%v\nwant %s", err, want)
	}
}

func FuzzCreate(f *testing.F) {
	for _, s := range [][3]string{{"data", "type", "tmpfs"}, {"../x", "o", "bind"}, {".removing-", "size", "1g"}, {"", "device", ""}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, name, key, value string) {
		err := checkNew(volume.CreateOptions{Name: name, Options: map[string]string{key: value}})
		if err != nil {
			return
		}
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") || len(removingName(name)) > 255 {
			t.Fatalf("%q was taken", name)
		}
		if got, ok := removedName(removingName(name)); !ok || got != name {
			t.Fatalf("%q becomes %q", name, got)
		}
	})
}
