package containers

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
	"longshore/internal/core/image"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/request"
)

// settle fills a record from the request, the image and the daemon's defaults, and checks it.
func (s *Service) settle(ctx context.Context, rec *core.Record, r CreateRequest, img image.Image) ([]string, error) {
	cfg, err := request.Merge(r.Config, &img.Config.Config)
	if err != nil {
		return nil, err
	}
	hc := *r.HostConfig
	rec.Config, rec.HostConfig = cfg, &hc
	desc := img.Manifest
	rec.Image = core.Image{ID: img.ID, Manifest: &desc, OS: "linux"}
	if err := s.settleHost(rec, r.Habits); err != nil {
		return nil, err
	}
	warnings, err := s.deps.Validator.Validate(cfg, &hc)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, request.FillBindings(&hc)...)
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if err := s.launcher.CheckJoins(rec, s.recordOf); err != nil {
		return nil, err
	}
	launch.SettleHostname(rec, s.recordOf, s.deps.Launch.Host.Hostname)
	rec.Networks, err = request.Endpoints(rec, r.Networking, s.deps.NetworkName)
	return warnings, err
}

// settleHost fills in the defaults of the host configuration.
func (s *Service) settleHost(rec *core.Record, habits request.Habits) (err error) {
	hc, live := rec.HostConfig, s.live.Load()
	if hc.NetworkMode == "" || hc.NetworkMode.IsDefault() {
		hc.NetworkMode = network.NetworkBridge
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = live.DefaultIpcMode
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = request.Cgroupns(hc, live.DefaultCgroupnsMode, s.deps.Launch.Host.Cgroup.Version, habits)
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = live.DefaultShmSize
	}
	if hc.Runtime == "" {
		hc.Runtime = s.launcher.DefaultRuntime()
	}
	if _, err := s.launcher.RuntimeNamed(hc.Runtime); err != nil {
		return err
	}
	if err := errors.Join(s.launcher.CheckCgroupParent(hc.CgroupParent), s.launcher.CheckUserNS(hc)); err != nil {
		return err
	}
	request.SettleResources(hc)
	launch.SettlePaths(hc)
	hc.LogConfig, err = s.launcher.SettleLog(hc.LogConfig)
	return err
}
