"""How fast a callable is, against a reference in the same run and the measured peak of the device."""
