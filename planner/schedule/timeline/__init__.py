"""When each step of a fleet of known paths happens: placing, bounds and what makes a timetable impossible."""
