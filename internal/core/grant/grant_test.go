package grant

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestOperation(t *testing.T) {
	for key, want := range map[string]string{
		"GET /containers/json": "containers/list", "POST /containers/create": "containers/create", "POST /containers/{id}/start": "containers/start",
		"GET /containers/{id}/json": "containers/inspect", "DELETE /containers/{id}": "containers/remove", "POST /containers/{id}/exec": "containers/exec",
		"PUT /containers/{id}/archive": "containers/archive-put", "HEAD /containers/{id}/archive": "containers/archive", "GET /containers/{id}/attach/ws": "containers/attach-ws",
		"POST /exec/{id}/start": "exec/start", "GET /exec/{id}/json": "exec/inspect", "GET /images/json": "images/list", "POST /images/create": "images/pull",
		"GET /images/{name...}/get": "images/save", "DELETE /images/{name...}": "images/remove", "POST /images/{name...}/push": "images/push",
		"GET /networks": "networks/list", "GET /networks/{id}": "networks/inspect", "POST /networks/create": "networks/create", "DELETE /networks/{id}": "networks/remove",
		"GET /volumes": "volumes/list", "PUT /volumes/{name...}": "volumes/update", "GET /info": "info/get", "GET /_ping": "_ping/get", "POST /build": "build/do",
		"POST /build/prune": "build/prune", "GET /system/df": "system/df", "OPTIONS /{any...}": "any/options", "GET /distribution/{name...}/json": "distribution/inspect",
	} {
		if got := Operation(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

func TestAllows(t *testing.T) {
	g := &Grant{Operations: []string{"containers/*", "images/list"}}
	for op, want := range map[string]bool{"containers/start": true, "images/list": true, "images/pull": false, "_ping/get": true, "exec/start": false} {
		if g.Allows(op) != want {
			t.Errorf("%s: %v", op, !want)
		}
	}
	if !(&Grant{Operations: []string{"**"}}).Allows("swarm/init") {
		t.Error("** does not allow everything")
	}
	if now := time.Now(); !(&Grant{Expires: now}).Expired(now) || (&Grant{}).Expired(now) {
		t.Error("expiry")
	}
}

func TestValidate(t *testing.T) {
	for _, bad := range []Grant{
		{}, {Name: "x"}, {Name: "x", Operations: []string{"containers"}}, {Name: "x", Operations: []string{"a/[b"}},
		{Name: "x", Operations: []string{"**"}, Binds: []string{"srv"}}, {Name: "x", Operations: []string{"**"}, Binds: []string{"/srv/../etc"}},
		{Name: "x\n", Operations: []string{"**"}}, {Name: "x", Operations: []string{"**"}, Labels: map[string]string{"": "v"}},
	} {
		if err := bad.Validate(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// links is a host with one link out of an allowed directory.
func links(p string) (string, error) {
	switch {
	case strings.HasPrefix(p, "/srv/ci/out"):
		return "/etc" + strings.TrimPrefix(p, "/srv/ci/out"), nil
	case strings.HasPrefix(p, "/none"):
		return "", fmt.Errorf("no such file")
	}
	return path.Clean(p), nil
}

func TestCreate(t *testing.T) {
	g := &Grant{Labels: map[string]string{"team": "ci"}, Binds: []string{"/srv/ci"}}
	cfg := &container.Config{Labels: map[string]string{"a": "b"}}
	hc := &container.HostConfig{
		Binds: []string{"/srv/ci/x:/x:ro", "data:/d", "/anonymous"}, VolumesFrom: []string{"other:ro"}, NetworkMode: "container:third", Links: []string{"db:alias"},
		Mounts: []mount.Mount{{Type: "bind", Source: "/srv/ci", Target: "/y"}, {Type: "volume", Source: "vol", Target: "/v", VolumeOptions: &mount.VolumeOptions{}}},
	}
	refs, err := g.Create(cfg, hc, links)
	if err != nil || fmt.Sprint(refs) != "{[other db third] [] [data vol]}" {
		t.Errorf("%v %v", refs, err)
	}
	if fmt.Sprint(cfg.Labels, hc.Binds, hc.Mounts[1].VolumeOptions.Labels) != "map[a:b team:ci] [/srv/ci/x:/x:ro data:/d /anonymous] map[team:ci]" {
		t.Error(cfg.Labels, hc.Binds, hc.Mounts)
	}
	for what, bad := range map[string]*container.HostConfig{
		"privileged": {Privileged: true}, "bind": {Binds: []string{"/etc:/e"}}, "sibling": {Binds: []string{"/srv/cicd:/e"}}, "link": {Binds: []string{"/srv/ci/out:/e"}},
		"dots": {Binds: []string{"/srv/ci/../../etc:/e"}}, "missing": {Binds: []string{"/none:/e"}}, "mount": {Mounts: []mount.Mount{{Type: "bind", Source: "/", Target: "/e"}}},
		"npipe": {Mounts: []mount.Mount{{Type: "npipe"}}}, "pid": {PidMode: "host"}, "net": {NetworkMode: "host"}, "ipc": {IpcMode: "host"}, "cap": {CapAdd: []string{"ALL"}},
		"device":  {Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/kvm"}}}},
		"options": {Mounts: []mount.Mount{{Type: "volume", VolumeOptions: &mount.VolumeOptions{DriverConfig: &mount.Driver{Options: map[string]string{"type": "none", "o": "bind", "device": "/etc"}}}}}},
		"paths":   {MaskedPaths: []string{}}, "seccomp": {SecurityOpt: []string{"seccomp=unconfined"}},
	} {
		if _, err := g.Create(&container.Config{}, bad, links); !errdefs.IsPermissionDenied(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := g.Create(&container.Config{Labels: map[string]string{"team": "other"}}, &container.HostConfig{}, links); !errdefs.IsPermissionDenied(err) {
		t.Errorf("a label of another namespace: %v", err)
	}
}

func TestEnv(t *testing.T) {
	env := []string{"A=secret=x", "B", "C="}
	ctx := Into(context.Background(), &Grant{RedactEnv: true})
	if got := fmt.Sprint(Env(ctx, env)); got != "[A=<redacted> B=<redacted> C=<redacted>]" {
		t.Error(got)
	}
	if got := Env(context.Background(), env); got[0] != "A=secret=x" || HidesEnv(context.Background()) {
		t.Error(got)
	}
}
