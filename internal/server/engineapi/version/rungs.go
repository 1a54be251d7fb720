package version

// rungs lists every version from the second to the newest.
func rungs() []Rung {
	return []Rung{v1_52()}
}
