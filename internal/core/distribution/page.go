package distribution

// Page asks for at most N names after Last, in ASCII order. N < 0 means "no limit asked"; N == 0 gives an empty list.
type Page struct {
	N    int
	Last string
}

// All is the page without limits.
var All = Page{N: -1}
