package request

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "longshore/internal/core/container"
)

func image() *dockerspec.DockerOCIImageConfig {
	c := &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		User: "app", WorkingDir: "/srv", StopSignal: "SIGINT", Env: []string{"PATH=/bin", "A=image"},
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Labels: map[string]string{"from": "image", "both": "image"},
		Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: map[string]struct{}{"80": {}, "90-91/udp": {}},
	}}
	c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 7}
	c.Shell = []string{"/bin/ash", "-c"}
	return c
}

func TestMergeTakesFromTheImage(t *testing.T) {
	cfg, err := Merge(&container.Config{
		Env: []string{"A=mine"}, Labels: map[string]string{"both": "mine"},
		Healthcheck:  &container.HealthConfig{Interval: 2 * time.Second},
		ExposedPorts: network.PortSet{network.MustParsePort("7/tcp"): {}},
	}, image())
	if err != nil {
		t.Fatal(err)
	}
	want := container.Config{
		User: "app", WorkingDir: "/srv", StopSignal: "SIGINT", Env: []string{"A=mine", "PATH=/bin"},
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Labels: map[string]string{"from": "image", "both": "mine"},
		Volumes: map[string]struct{}{"/data": {}}, Shell: []string{"/bin/ash", "-c"},
		Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 2 * time.Second, Retries: 7},
		ExposedPorts: network.PortSet{
			network.MustParsePort("7/tcp"): {}, network.MustParsePort("80/tcp"): {},
			network.MustParsePort("90/udp"): {}, network.MustParsePort("91/udp"): {},
		},
	}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}
}

func TestMergeCommand(t *testing.T) {
	for _, c := range []struct {
		entry, cmd []string
		want       string
	}{
		{nil, nil, "[/entry] [serve]"},
		{nil, []string{"x"}, "[/entry] [x]"},
		{[]string{"e"}, nil, "[e] []"},
		{[]string{"e"}, []string{"x"}, "[e] [x]"},
		{[]string{}, nil, "[] [serve]"},
		{[]string{""}, []string{"x"}, "[] [x]"},
		{[]string{""}, nil, "error: No command specified"},
	} {
		cfg, err := Merge(&container.Config{Entrypoint: c.entry, Cmd: c.cmd}, image())
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		}
		if err == nil {
			got = fmt.Sprintf("%v %v", cfg.Entrypoint, cfg.Cmd)
		}
		if got != c.want {
			t.Errorf("%q %q: got %s, want %s", c.entry, c.cmd, got, c.want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	rec := &core.Record{Config: &container.Config{}, HostConfig: &container.HostConfig{NetworkMode: "blue"}}
	out, err := Endpoints(rec, &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		"red": {Aliases: []string{"x"}, EndpointID: "stale", NetworkID: "stale"}, "default": nil,
	}}, nil)
	if err != nil || len(out) != 2 || out["bridge"] == nil || out["red"].EndpointID != "" || out["red"].Aliases[0] != "x" {
		t.Errorf("%v %v", out, err)
	}
	if out, err := Endpoints(rec, nil, nil); err != nil || len(out) != 1 || out["blue"] == nil {
		t.Errorf("of the mode: %v %v", out, err)
	}
	rec.HostConfig.NetworkMode = "host"
	if out, err := Endpoints(rec, &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"red": nil}}, nil); err != nil || len(out) != 2 || out["host"] == nil {
		t.Errorf("on the host's: %v %v", out, err) // the start refuses it
	}
	rec.HostConfig.NetworkMode = "b1"
	names := func(ref string) (string, error) {
		if ref == "b1" || ref == "blue" {
			return "blue", nil
		}
		return "", errors.New("none")
	}
	out, err = Endpoints(rec, &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"b1": {Aliases: []string{"x"}}, "later": nil}}, names)
	if err != nil || len(out) != 2 || out["blue"] == nil || len(out["blue"].Aliases) != 1 || out["later"] == nil {
		t.Errorf("by ID: %v %v", out, err)
	}
	rec.HostConfig.NetworkMode = "container:x"
	if out, err := Endpoints(rec, nil, nil); err != nil || len(out) != 0 {
		t.Errorf("joined: %v %v", out, err)
	}
	if _, err := Endpoints(rec, &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"a": nil}}, nil); err == nil {
		t.Error("a container that joins another's network was put on one of its own")
	}
}

func TestMergeResources(t *testing.T) {
	have := container.Resources{Memory: 100, MemorySwap: 200, CPUShares: 5}
	if err := MergeResources(&have, &container.Resources{Memory: 150, NanoCPUs: 1}); err != nil || have.Memory != 150 || have.NanoCPUs != 1 || have.CPUShares != 5 {
		t.Errorf("%v %+v", err, have)
	}
	zero := int64(0)
	for want, u := range map[string]container.Resources{
		"Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time": {Memory: 300},
		"Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set":                 {CPUQuota: 1},
		"<nil>": {PidsLimit: &zero},
	} {
		if got := fmt.Sprint(MergeResources(&have, &u)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if *have.PidsLimit != 0 {
		t.Errorf("pids limit %d", *have.PidsLimit)
	}
}

func TestCgroupns(t *testing.T) {
	for _, c := range []struct {
		version    string
		privileged bool
		old        bool
		configured container.CgroupnsMode
		want       container.CgroupnsMode
	}{
		{"1", false, false, "", "host"},
		{"1", false, false, "private", "private"},
		{"1", true, false, "private", "host"},
		{"1", false, true, "private", "host"},
		{"2", false, false, "", "private"},
		{"2", true, false, "", "private"},
		{"2", true, true, "private", "private"},
		{"2", false, true, "host", "host"},
	} {
		if got := Cgroupns(&container.HostConfig{Privileged: c.privileged}, c.configured, c.version, Habits{HostCgroupns: c.old}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
