"""Landing: how the shops' files arrive, are checked, and become raw tables in the warehouse."""
