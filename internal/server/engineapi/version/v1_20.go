package version

import (
	"github.com/containerd/errdefs"

	"longshore/internal/server/route"
)

// v1_20 is what 1.20 changed against 1.19 (changelog, "v1.20 API changes"; daemon source of 1.8).
func v1_20() Rung {
	return Rung{Version: "1.20", Source: "version-history.md, docker_remote_api_v1.19.md", Changes: []Change{
		{What: "limits in Config; additional groups; swappiness", Routes: []string{create}, Lift: createBelow20},
		{What: "Volumes and VolumesRW instead of Mounts; limits in Config", Routes: []string{inspect}, Lower: inspectBelow20},
		{What: "limits in an image's Config", Routes: []string{imageInspect}, Lower: imageBelow20},
		{What: "kill of a stopped container answers 204", Routes: []string{killRoute}, Error: func(_ *route.Request, err error) error {
			if errdefs.IsConflict(err) {
				return nil
			}
			return err
		}},
	}}
}

// createBelow20 moves limits from Config, where they lay once and were still taken, to the host configuration.
func createBelow20(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Member("HostConfig").Delete("GroupAdd", "MemorySwappiness")
	for _, f := range []string{"Memory", "MemorySwap", "CpuShares", "CpusetCpus"} {
		m := body.Member(f)
		body.Delete(f)
		if hc := body.Ensure("HostConfig"); !m.Empty() && hc.Member(f).Empty() {
			hc.Set(f, m)
		}
	}
	return nil
}

func inspectBelow20(v *View) {
	volumes, rw := map[string]string{}, map[string]bool{}
	for _, m := range v.Body.Member("Mounts").Items() {
		if m.Member("Type").String() == "tmpfs" {
			continue
		}
		at := m.Member("Destination").String()
		volumes[at], rw[at] = m.Member("Source").String(), m.Member("RW").Bool()
	}
	v.Body.Delete("Mounts")
	v.Body.Set("Volumes", volumes)
	v.Body.Set("VolumesRW", rw)
	cfg, hc := v.Body.Member("Config"), v.Body.Member("HostConfig")
	hc.Delete("GroupAdd", "MemorySwappiness")
	for _, f := range []string{"Memory", "MemorySwap", "CpuShares"} {
		cfg.Default(f, hc.Member(f).Int())
	}
	cfg.Default("Cpuset", hc.Member("CpusetCpus").String())
	cfg.Default("PortSpecs", nil)
}

// imageBelow20 gives both configurations what Config had once, always empty.
func imageBelow20(v *View) {
	for _, name := range []string{"Config", "ContainerConfig"} {
		cfg := v.Body.Member(name)
		for _, f := range []string{"Memory", "MemorySwap", "CpuShares"} {
			cfg.Default(f, 0)
		}
		cfg.Default("Cpuset", "")
		cfg.Default("VolumesFrom", "")
		cfg.Default("Dns", nil)
		cfg.Default("PortSpecs", nil)
	}
}
