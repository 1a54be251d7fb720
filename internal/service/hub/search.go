package hub

import (
	"context"
	"errors"
	"strings"

	"longshore/internal/core/distribution"
	"longshore/internal/core/graph"
)

// Search is a question to the index. Readable says what may be told; nil means everything.
type Search struct {
	Term     string
	N, Page  int
	Readable func(distribution.RepoName) bool
}

// Limits of a page, from the document.
const (
	DefaultN = 25
	MaxN     = 100
)

// Result is a repository that was found.
type Result struct {
	// Name is without "library/".
	Name        string
	Description string
	Stars       int64
	// Official repositories lie in library, Trusted ones are built automatically.
	Official, Trusted bool
}

// Results is a page of what was found. Total counts all that may be told.
type Results struct {
	Total, Pages, Page, N int
	List                  []Result
}

// library is the namespace of repositories without one.
const library = "library/"

// errEnough ends searches that find more than a client could ever page through.
var errEnough = errors.New("enough")

// maxFound bounds how much one search looks at.
const maxFound = 100_000

// Search looks for a term in names and descriptions. A repository that the caller may not read is neither told nor counted.
func (s *Service) Search(ctx context.Context, q Search) (Results, error) {
	if q.N < 1 || q.N > MaxN {
		q.N = DefaultN
	}
	q.Page = min(max(q.Page, 1), maxFound)
	out := Results{Page: q.Page, N: q.N, List: []Result{}}
	first := (q.Page - 1) * q.N
	looked := 0
	var names []distribution.RepoName // of out.List
	// "library/" is not part of the name that is told, and matches nothing by itself.
	term := strings.TrimPrefix(strings.TrimSpace(q.Term), library)
	err := s.repos.Search(ctx, term, func(f graph.Found) error {
		if looked++; looked > maxFound {
			return errEnough
		}
		r := Result{Name: string(f.Name), Description: f.Description, Stars: f.Stars, Trusted: f.Trusted}
		r.Name, r.Official = strings.CutPrefix(r.Name, library)
		if !strings.Contains(r.Name, lower(term)) && !strings.Contains(lower(r.Description), lower(term)) {
			return nil
		}
		if q.Readable != nil && !q.Readable(f.Name) {
			return nil
		}
		if out.Total >= first && len(out.List) < q.N {
			out.List, names = append(out.List, r), append(names, f.Name)
		}
		out.Total++
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Results{}, err
	}
	for n := range out.List {
		if out.List[n].Description == "" {
			out.List[n].Description = clip(s.cfg.Describe(ctx, names[n]))
		}
	}
	out.Pages = (out.Total + q.N - 1) / q.N
	return out, nil
}

// lower folds ASCII letters, as the database does.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
