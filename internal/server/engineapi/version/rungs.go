package version

// rungs lists every version from the second to the newest.
func rungs() []Rung {
	return []Rung{
		v1_41(), v1_42(), v1_43(), v1_44(), v1_45(), v1_46(), v1_47(), v1_48(), v1_49(), v1_50(),
		v1_51(), v1_52(), v1_53(), v1_54(), v1_55(),
	}
}
