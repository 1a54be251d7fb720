// Package ledger is the account of every change that the engine API's versions made: what the ladder does about it, or
// why it need do nothing. The table is read by tests, which hold it against the published changes and against the rungs,
// and docs/api-changes.md is written from it.
//
//	rows, err := ledger.Rows()
//	doc := ledger.Markdown(rows)
package ledger

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed ledger.tsv
var table string

// What a row's change needs.
const (
	// Rung: the ladder's file of the row's Rung does it.
	Rung = "rung"
	// Additive: older clients neither send nor mind it, or it is the same in every version.
	Additive = "additive"
	// NotHere: the feature itself is missing; the note says which.
	NotHere = "not here"
)

// Row is one change of one version.
type Row struct {
	// Version that made the change, and the endpoints that it touches: "GET /info", several parted by "; ".
	Version, Endpoint string
	// Change in words.
	Change string
	// Disposition is Rung, Additive or NotHere.
	Disposition string
	// Rung is the version whose file handles the change; empty unless Disposition is Rung.
	Rung string
	// Note says why nothing is needed, or what is missing.
	Note string
}

// Key tells rows apart.
func (r Row) Key() string { return r.Version + "\t" + r.Endpoint + "\t" + r.Change }

// Endpoints are the row's endpoints one by one.
func (r Row) Endpoints() []string {
	list := strings.Split(r.Endpoint, ";")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// Rows reads the table. A line that is not well formed is an error that names it.
func Rows() ([]Row, error) {
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	rows := make([]Row, 0, len(lines))
	for i, l := range lines[1:] {
		c := strings.Split(l, "\t")
		if len(c) != 6 {
			return nil, fmt.Errorf("ledger line %d has %d columns, not 6", i+2, len(c))
		}
		rows = append(rows, Row{Version: c[0], Endpoint: c[1], Change: c[2], Disposition: c[3], Rung: c[4], Note: c[5]})
	}
	return rows, nil
}

const head = `# What each API version changed, and what Longshore does about it

Written from ` + "`internal/server/engineapi/version/ledger/ledger.tsv`" + ` by ` + "`go test ./internal/server/engineapi/version -run Ledger -update`" + `; edit the table.

A **rung** is code in ` + "`internal/server/engineapi/version/v1_N.go`" + ` that lifts requests of older clients and lowers what they get.
**Additive** changes need none: older clients neither send nor mind them, or they are the same in every version.
**Not here** marks what belongs to features that Longshore does not have.
`

// Markdown writes the table as a document, newest version first.
func Markdown(rows []Row) []byte {
	var b strings.Builder
	b.WriteString(head)
	count := map[string]int{}
	for _, r := range rows {
		count[r.Disposition]++
	}
	fmt.Fprintf(&b, "\n%d changes: %d by rungs, %d additive, %d not here.\n", len(rows), count[Rung], count[Additive], count[NotHere])
	for end := len(rows); end > 0; {
		start := end - 1
		for start > 0 && rows[start-1].Version == rows[end-1].Version {
			start--
		}
		fmt.Fprintf(&b, "\n## %s\n\n| endpoint | change | here |\n| --- | --- | --- |\n", rows[start].Version)
		for _, r := range rows[start:end] {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.Endpoint), cell(r.Change), cell(r.here()))
		}
		end = start
	}
	return []byte(b.String())
}

func (r Row) here() string {
	switch {
	case r.Disposition == Rung:
		return "rung " + r.Rung
	case r.Note != "":
		return r.Disposition + ": " + r.Note
	}
	return r.Disposition
}

var escapes = strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`)

func cell(s string) string { return escapes.Replace(s) }
