package version

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"longshore/internal/server/engineapi/version/ledger"
)

var rewrite = flag.Bool("update", false, "write docs/api-changes.md and the golden files anew")

const changesDoc = "../../../../docs/api-changes.md"

// absent are the features whose changes may be missing.
var absent = []string{"swarm", "plugins", "Windows", "the builder brings its route"}

// TestLedger holds the ledger against the published changes (ledger/testdata/changes.tsv) and against the rungs.
func TestLedger(t *testing.T) {
	rows, err := ledger.Rows()
	if err != nil {
		t.Fatal(err)
	}
	compareWithPublished(t, rows)
	byVersion := map[string]Rung{}
	for _, r := range rungs() {
		byVersion[r.Version] = r
	}
	for _, row := range rows {
		switch row.Disposition {
		case ledger.Rung:
			if r, ok := byVersion[row.Rung]; !ok || !touches(r, row) {
				t.Errorf("rung %s has no change of %s: %s", row.Rung, row.Endpoint, row.Change)
			}
		case ledger.Additive:
			if row.Note == "" || row.Rung != "" {
				t.Errorf("additive without a reason: %s", row.Key())
			}
		case ledger.NotHere:
			if !slices.Contains(absent, row.Note) {
				t.Errorf("not here, for no accepted reason %q: %s", row.Note, row.Key())
			}
		default:
			t.Errorf("unknown disposition %q: %s", row.Disposition, row.Key())
		}
	}
}

func compareWithPublished(t *testing.T, rows []ledger.Row) {
	t.Helper()
	doc, err := os.ReadFile("ledger/testdata/changes.tsv")
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]int{}
	for _, l := range strings.Split(strings.TrimSpace(string(doc)), "\n")[1:] {
		c := strings.Split(l, "\t")
		published[strings.Join(c[:3], "\t")]++
	}
	for _, row := range rows {
		if published[row.Key()] == 0 {
			t.Errorf("unknown row: %s", row.Key())
		}
		published[row.Key()]--
	}
	for key, n := range published {
		if n > 0 {
			t.Errorf("missing row: %s", key)
		}
	}
}

// touches tells whether a rung changes an endpoint of the row, or a behaviour of all.
func touches(r Rung, row ledger.Row) bool {
	if r.Dialect != nil {
		if strings.HasPrefix(row.Endpoint, "(all") {
			return true
		}
		for _, e := range row.Endpoints() {
			if slices.Contains([]string{attach, attachWS, logsRoute, execStart, waitRoute}, e) {
				return true
			}
		}
	}
	for _, c := range r.Changes {
		for _, e := range row.Endpoints() {
			if slices.Contains(c.Routes, e) {
				return true
			}
		}
	}
	return false
}

// TestLedgerDocument keeps docs/api-changes.md as the ledger says.
func TestLedgerDocument(t *testing.T) {
	rows, err := ledger.Rows()
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Markdown(rows)
	if *rewrite {
		if err := os.WriteFile(changesDoc, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(changesDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/api-changes.md differs from the ledger: run this test with -update")
	}
}
