package build

import (
	"encoding/json"
	"strconv"

	"github.com/docker/go-units"

	"longshore/internal/core/build"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
	"longshore/internal/service/build/classic"
)

// request reads all query parameters but those of the source.
func request(r *route.Request) (classic.Request, error) {
	q := r.Query
	out := classic.Request{
		Quiet: r.Bool("q"), Remove: r.BoolOr("rm", true) || r.Bool("forcerm"),
		Build: build.Request{
			ID: q.Get("buildid"), Session: q.Get("session"), Target: q.Get("target"), Auth: credentials(r),
			Cache:  build.Cache{None: r.Bool("nocache"), Pull: r.Bool("pull")},
			Output: build.Output{Names: q["t"], Squash: r.Bool("squash")},
			Run: build.Run{
				Network: q.Get("networkmode"), ExtraHosts: q["extrahosts"], CgroupParent: q.Get("cgroupparent"),
				CPUSetCPUs: q.Get("cpusetcpus"), CPUSetMems: q.Get("cpusetmems"),
			},
		},
	}
	b := &out.Build
	if p := q.Get("platform"); p != "" {
		b.Platforms = []string{p}
	}
	if i := q.Get("isolation"); i != "" && i != "default" {
		return out, fault.Invalid("unsupported isolation: %q", i)
	}
	if len(q["securityopt"]) > 0 {
		return out, fault.Invalid("The daemon on this platform does not support setting security options on build")
	}
	if err := numbers(r, &b.Run); err != nil {
		return out, err
	}
	return out, documents(r, b)
}

// numbers reads limits. Those of the size of /dev/shm alone are checked, as docker has it; what is no number elsewhere
// is none.
func numbers(r *route.Request, run *build.Run) error {
	for name, n := range map[string]*int64{
		"memory": &run.Memory, "memswap": &run.MemorySwap, "cpushares": &run.CPUShares, "cpuperiod": &run.CPUPeriod, "cpuquota": &run.CPUQuota,
	} {
		*n, _ = strconv.ParseInt(r.Query.Get(name), 10, 64)
	}
	text := r.Query.Get("shmsize")
	if text == "" {
		return nil
	}
	var err error
	if run.ShmSize, err = strconv.ParseInt(text, 10, 64); err != nil || run.ShmSize < 0 {
		return fault.Invalid("invalid value for shmsize: %q", text)
	}
	return nil
}

// document reads a parameter that is JSON.
func document(r *route.Request, name, what string, v any) error {
	text := r.Query.Get(name)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fault.Invalid("error reading %s: %w", what, err)
	}
	return nil
}

func documents(r *route.Request, b *build.Request) error {
	var limits []*units.Ulimit
	if err := document(r, "ulimits", "ulimit settings", &limits); err != nil {
		return err
	}
	for _, u := range limits {
		if u != nil {
			b.Run.Ulimits = append(b.Run.Ulimits, u)
		}
	}
	if err := document(r, "buildargs", "build args", &b.Args); err != nil {
		return err
	}
	if err := document(r, "labels", "labels", &b.Labels); err != nil {
		return err
	}
	var from []string
	if err := document(r, "cachefrom", "cache-from", &from); err != nil {
		return err
	}
	for _, ref := range from {
		b.Cache.From = append(b.Cache.From, build.CacheSource{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	if err := document(r, "outputs", "outputs", &outputs); err != nil {
		return err
	}
	for _, o := range outputs {
		b.Output.Exporters = append(b.Output.Exporters, build.Exporter{Type: o.Type, Attrs: o.Attrs})
	}
	return nil
}
