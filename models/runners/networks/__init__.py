"""Networks that we wrote from their papers, as torch modules that load the weights their authors published."""
