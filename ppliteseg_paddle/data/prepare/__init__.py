"""From what people have to a data set in PaddleSeg's form: one module a source."""
