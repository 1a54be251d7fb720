package version

import (
	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_42 is what 1.42 changed against 1.41 (changelog, "v1.42 API changes"; daemon source of 23.0).
func v1_42() Rung {
	return Rung{
		Version: "1.42", Source: "version-history.md",
		Dialect: func(d *route.Dialect) { d.RawStreamType = true },
		Changes: []Change{
			{What: "console size; options of other mount types; CreateMountpoint; KernelMemory", Routes: []string{create}, Lift: createBelow42},
			{What: "KernelMemory of an update", Routes: []string{update}, Lift: dropFields("KernelMemory", "KernelMemoryTCP")},
			{What: "streams of the websocket", Routes: []string{attachWS}, Lift: func(r *Request) error {
				for _, q := range []string{"stdin", "stdout", "stderr"} {
					r.Query.Set(q, "1")
				}
				return nil
			}},
			{What: "console size of an exec", Routes: []string{execCreate, execStart}, Lift: dropFields("ConsoleSize")},
			{What: "KernelMemory of a container", Routes: []string{inspect}, Lower: func(v *View) {
				hc := v.Body.Member("HostConfig")
				hc.Default("KernelMemory", 0)
				hc.Default("KernelMemoryTCP", 0)
			}},
			{What: "signal of stop and restart", Routes: []string{stop, restart}, Lift: dropQuery("signal")},
			{What: "shared size of images", Routes: []string{imageList}, Lift: dropQuery("shared-size")},
			{What: "KernelMemory of info", Routes: []string{info}, Lower: func(v *View) { v.Body.Default("KernelMemory", false) }},
			{What: "type of disk usage; BuilderSize; Parent of a cache record", Routes: []string{df}, Lift: dropQuery("type"), Lower: dfBelow42},
			{What: "prune takes named volumes too", Routes: []string{volumePrune}, Lift: func(r *Request) error { return setFilter(r, "all", "true") }},
		},
	}
}

func createBelow42(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Member("HostConfig").Delete("ConsoleSize", "KernelMemory", "KernelMemoryTCP")
	own := map[string]string{"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
	return eachMount(r, func(m *jsontree.Value) error {
		for _, opts := range own {
			if own[m.Member("Type").String()] != opts {
				m.Delete(opts)
			}
		}
		m.Member("BindOptions").Delete("CreateMountpoint")
		return nil
	})
}

func dfBelow42(v *View) {
	var size int64
	for _, c := range v.Body.Member("BuildCache").Items() {
		size += c.Member("Size").Int()
		if p := c.Member("Parents").Strings(); len(p) > 0 {
			c.Set("Parent", p[0])
		} else {
			c.Set("Parent", "")
		}
		c.Delete("Parents")
	}
	v.Body.Set("BuilderSize", size)
}
