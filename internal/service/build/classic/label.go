package classic

import (
	"regexp"
	"strconv"
)

// label is what the builder's progress calls a step: "[linux/arm64 build 2/5] RUN make".
type label struct {
	stage         string // empty in a file of one stage
	number, count int
}

var labelForm = regexp.MustCompile(`^\[(?:[a-z0-9]+/\S+ )?(?:([A-Za-z0-9_.\-]+) )? *([0-9]+)/([0-9]+)\] `)

func parseLabel(name string) (label, bool) {
	m := labelForm.FindStringSubmatch(name)
	if m == nil {
		return label{}, false
	}
	number, err1 := strconv.Atoi(m[2])
	count, err2 := strconv.Atoi(m[3])
	if err1 != nil || err2 != nil || number < 1 || number > count {
		return label{}, false
	}
	return label{stage: m[1], number: number, count: count}, true
}
