"""The control centre's side: an IEC 60870-5-104 outstation of our own, and the same on c104 beside it."""
