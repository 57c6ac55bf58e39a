"""Problems in, measurements out, the model behind Backend."""
