package ocispec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/idmap"
)

type armory struct{ asked []string }

func (a *armory) Ensure(name string) error {
	a.asked = append(a.asked, name)
	if name == "broken" {
		return errors.New("cannot be loaded")
	}
	return nil
}

func TestAppArmor(t *testing.T) {
	root := accounts(t)
	for _, x := range []struct {
		opts       []string
		privileged bool
		want       string
	}{
		{nil, false, "docker-default"},
		{nil, true, "unconfined"},
		{[]string{"apparmor=mine"}, false, "mine"},
		{[]string{"apparmor=mine"}, true, "mine"},
		{[]string{"apparmor:unconfined"}, false, "unconfined"},
	} {
		a := &armory{}
		in := plain(root)
		in.AppArmor, in.HostConfig.SecurityOpt, in.HostConfig.Privileged = a, x.opts, x.privileged
		if s, err := Generate(in); err != nil || s.Process.ApparmorProfile != "" || len(a.asked) > 0 {
			t.Errorf("%+v: a kernel without AppArmor: %v %v", x, a.asked, err)
		}
		in.Host.Security.AppArmor = true
		s, err := Generate(in)
		if err != nil || s.Process.ApparmorProfile != x.want || !slices.Equal(a.asked, []string{x.want}) {
			t.Errorf("%+v: %v %v", x, a.asked, err)
		}
	}
	in := plain(root)
	in.Host.Security.AppArmor, in.AppArmor, in.HostConfig.SecurityOpt = true, &armory{}, []string{"apparmor=broken"}
	if _, err := Generate(in); err == nil {
		t.Error("a profile that cannot be loaded")
	}
}

type vendor struct{}

func (vendor) Inject(s *specs.Spec, names []string) error {
	s.Process.Env = append(s.Process.Env, "DEVICES="+strings.Join(names, ","))
	return nil
}

func TestDeviceRequests(t *testing.T) {
	root := accounts(t)
	for _, x := range []struct {
		r     container.DeviceRequest
		words string
	}{
		{container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"a/b=c", "a/b=d"}}, ""},
		{container.DeviceRequest{Driver: "cdi", Count: 1}, "cannot specify Count"},
		{container.DeviceRequest{Count: -1, Capabilities: [][]string{{"gpu"}}}, `could not select device driver "" with capabilities: [[gpu]]`},
		{container.DeviceRequest{Driver: "nvidia"}, `could not select device driver "nvidia" with capabilities: []`},
	} {
		in := plain(root)
		in.CDI, in.HostConfig.DeviceRequests = vendor{}, []container.DeviceRequest{x.r}
		s, err := Generate(in)
		switch {
		case x.words == "":
			if err != nil || !slices.Contains(s.Process.Env, "DEVICES=a/b=c,a/b=d") {
				t.Errorf("%+v: %v", x.r, err)
			}
		case err == nil || !strings.Contains(err.Error(), x.words):
			t.Errorf("%+v: %v", x.r, err)
		}
	}
}

func TestUserNamespace(t *testing.T) {
	in := plain(accounts(t))
	in.IDs = &idmap.Map{UIDs: []idmap.Range{{Outside: 100000, Size: 65536}}, GIDs: []idmap.Range{{Outside: 200000, Size: 1000}}}
	if _, err := Generate(in); err == nil {
		t.Error("a user namespace without a path")
	}
	in.Namespaces.User = "/run/ns/x.user"
	s, err := Generate(in)
	if err != nil {
		t.Fatal(err)
	}
	if first := s.Linux.Namespaces[0]; first.Type != specs.UserNamespace || first.Path != "/run/ns/x.user" {
		t.Errorf("the first namespace is %+v", first)
	}
	if m := s.Linux.GIDMappings; len(m) != 1 || m[0] != (specs.LinuxIDMapping{HostID: 200000, Size: 1000}) || s.Linux.UIDMappings[0].HostID != 100000 {
		t.Errorf("%+v %+v", s.Linux.UIDMappings, m)
	}
	if v := s.Linux.Sysctl["net.ipv4.ping_group_range"]; v != "0 999" {
		t.Errorf("groups that are not mapped: %q", v)
	}
}
