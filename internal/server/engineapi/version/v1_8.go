package version

import (
	"fmt"

	"longshore/internal/base/jsontree"

	"github.com/docker/go-units"
)

// v1_8 is what 1.8 changed against 1.7 (changelog, "v1.8 API changes"; original document of 1.7).
func v1_8() Rung {
	return Rung{Version: "1.8", Source: "version-history.md, original/docker_remote_api_v1.7.rst", Changes: []Change{
		{What: "a build answers plain text", Routes: []string{buildRoute}, Reply: plainText("text/plain")},
		{What: "shares of the CPU", Routes: []string{create}, Lift: dropFields("CpuShares")},
		{What: "host configuration of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig")},
		{What: "progress as text only", Routes: []string{imagePull, imagePush, imageInsert}, LowerEach: progressText},
	}}
}

// progressText writes the progress into the status line's text, as before 1.8.
func progressText(v *View) {
	d := v.Body.Member("progressDetail")
	if d == nil {
		return
	}
	if total, current := d.Member("total").Int(), d.Member("current").Int(); v.Body.Member("progress").Empty() && current > 0 {
		text := units.HumanSize(float64(current)) + "/? (n/a)"
		if total > 0 {
			text = fmt.Sprintf("%s/%s (%d%%)", units.HumanSize(float64(current)), units.HumanSize(float64(total)), current*100/total)
		}
		v.Body.Set("progress", text)
	}
	v.Body.Delete("progressDetail")
	if e := v.Body.At("errorDetail", "message"); e.Kind() == jsontree.String {
		v.Body.Default("error", e.String())
	}
	v.Body.Delete("errorDetail", "aux")
}
