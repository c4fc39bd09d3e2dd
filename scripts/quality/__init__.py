"""Compares methods of translation on real encoders: data, methods, rivals, scores, report."""
